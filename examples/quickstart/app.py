#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small application that knows nothing of TLS; each sidecar of the quickstart stands beside one.

  app.py greeter             answers each request with a greeting and the headers it saw
  app.py frontend URL        for each request asks URL, and answers with what came back

Listens on a free port of 127.0.0.1 and says which in its first line."""
import http.server
import json
import sys
import urllib.error
import urllib.request


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        seen = {name.lower(): value for name, value in self.headers.items()}
        if self.server.ask:
            answer = ask(self.server.ask)
        else:
            answer = {"greeting": f"hello from {self.server.name}", "headers": seen}
        self.reply({"app": self.server.name, **answer})

    def reply(self, answer):
        body = json.dumps(answer, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(format % args, flush=True)


def ask(url):
    """What `url` answers. No proxy of the environment stands between us and our sidecar."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return {"asked": url, "status": answer.status, "answer": json.load(answer)}
    except urllib.error.HTTPError as err:
        return {"asked": url, "status": err.code, "answer": err.read().decode("utf-8", "replace")}
    except (OSError, ValueError) as err:
        return {"asked": url, "status": 0, "answer": str(err)}


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.name = sys.argv[1]
    server.ask = sys.argv[2] if len(sys.argv) > 2 else None
    print(f"{server.name} listens on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
