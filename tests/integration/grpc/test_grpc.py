# SPDX-License-Identifier: Apache-2.0
"""Our gRPC server and client against gRPC's own: the program grpc_echo (harness/peers) under
sanitizers at one end, grpcio at the other."""
import os
import queue
import subprocess
import threading
import zlib
from concurrent import futures

import grpc
import pytest

from harness.agent import BUILD_DIR, sanitizer_env

ECHO = os.path.join(BUILD_DIR, "bin/grpc_echo")
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
SOON_S = 30


class Echo:
    """A started grpc_echo; `expect` waits for the line that begins with a word."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([ECHO, *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, **sanitizer_env()})
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.decode().rstrip("\n"))
        self.lines.put(None)

    def expect(self, word):
        seen = []
        while True:
            line = self.lines.get(timeout=SOON_S)
            assert line is not None, f"ended without {word!r}: {seen}, {self.errors()}"
            if line.split(" ")[0] == word:
                return line
            seen.append(line)

    def errors(self):
        return self.process.stderr.read().decode()

    def end(self):
        """Ends it as a user would; a leak or an undefined operation shows in the status."""
        self.process.stdin.close()
        status = self.process.wait(SOON_S)
        assert status == 0, self.errors()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def new_echo(closing):
    def make(*arguments):
        closing.append(Echo(*arguments))
        return closing[-1]
    return make


# ---- our server ----

class Served:
    def __init__(self, echo, channel):
        self.echo, self.channel = echo, channel

    def talk(self):
        return self.channel.stream_stream("/test.Echo/Talk")

    def unary(self, method):
        return self.channel.unary_unary("/test.Echo/" + method)


@pytest.fixture(params=["unix", "tls"])
def served(request, new_echo, authority, tmp_path):
    if request.param == "unix":
        echo = new_echo("serve", f"unix:{tmp_path}/echo")
        channel = grpc.insecure_channel(echo.expect("listening").split(" ")[1], UNLIMITED)
    else:
        key, chain = authority.issue(["127.0.0.1"])
        (tmp_path / "key.pem").write_bytes(key)
        (tmp_path / "chain.pem").write_bytes(chain)
        echo = new_echo("serve", "127.0.0.1:0", "--chain", str(tmp_path / "chain.pem"),
                        "--key", str(tmp_path / "key.pem"))
        trust = grpc.ssl_channel_credentials(authority.root_pem)
        channel = grpc.secure_channel(echo.expect("listening").split(" ")[1], trust, UNLIMITED)
    yield Served(echo, channel)
    channel.close()
    echo.end()


def test_messages_come_back(served):
    messages = [b"one", b"", os.urandom(16384), os.urandom(16379), os.urandom(1 << 20), b"end"]
    assert list(served.talk()(iter(messages), timeout=SOON_S)) == messages


def test_large_message_comes_back(served):
    message = os.urandom(24 << 20)
    [back] = served.talk()(iter([message]), timeout=60)
    assert back == message


def test_answers_come_while_the_client_still_sends(served):
    outgoing = queue.Queue()
    answers = served.talk()(iter(outgoing.get, None), timeout=SOON_S)
    for i in range(50):
        outgoing.put(b"m%d" % i)
        assert next(answers) == b"m%d" % i
    outgoing.put(None)
    with pytest.raises(StopIteration):
        next(answers)
    assert answers.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("code", [1, 2, 3, 5, 7, 8, 13, 14, 16])
def test_status_and_text_arrive(served, code):
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("Fail")(b"", timeout=SOON_S, metadata=[
            ("want-code", str(code)), ("want-message", "why % not")])
    assert caught.value.code().value[0] == code
    assert caught.value.details() == "<why % not> ü%\n"


def test_long_text_is_cut_at_4_kib(served):
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("Fail")(b"", timeout=SOON_S, metadata=[
            ("want-code", "5"), ("want-message", "x" * 6000)])
    assert caught.value.details() == "<" + "x" * 4095


def test_unknown_method(served):
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("Sing")(b"", timeout=SOON_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "unknown method Sing for service test.Echo"


def test_deadline_of_the_client(served):
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("Hang")(b"", timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.echo.expect("served") == "served 1 reset"


def test_cancel_leaves_the_connection_usable(served):
    for _ in range(20):
        call = served.unary("Hang").future(b"x" * 200000)
        call.cancel()
    assert served.unary("Blob")(b"5", timeout=SOON_S) == b"bbbbb"


def test_reset_in_the_middle_is_no_end(served):
    with pytest.raises(grpc.RpcError) as caught:
        served.unary("Half")(b"1000000", timeout=SOON_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert served.unary("Blob")(b"1000000", timeout=SOON_S) == b"b" * 1000000


def test_many_calls_at_once(served):
    def one(i):
        message = os.urandom(50000) + b"%d" % i
        return list(served.talk()(iter([message] * 3), timeout=60)) == [message] * 3
    with futures.ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(96)))


def test_server_keepalive_is_answered(new_echo, tmp_path):
    echo = new_echo("serve", f"unix:{tmp_path}/echo", "--keepalive", "100")
    address = echo.expect("listening").split(" ")[1]
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/test.Echo/Hang").future(b"")
        # 25 keepalives and more than the time after which a peer that is silent counts as dead.
        with pytest.raises(grpc.FutureTimeoutError):
            call.result(timeout=2.5)
        assert channel.unary_unary("/test.Echo/Blob")(b"3", timeout=SOON_S) == b"bbb"
        call.cancel()
    echo.end()


def test_foreign_root_is_refused(new_echo, authority, tmp_path):
    key, chain = authority.issue(["127.0.0.1"])
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "chain.pem").write_bytes(chain)
    echo = new_echo("serve", "127.0.0.1:0", "--chain", str(tmp_path / "chain.pem"),
                    "--key", str(tmp_path / "key.pem"))
    address = echo.expect("listening").split(" ")[1]
    other = type(authority)("another root")
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(other.root_pem)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Echo/Blob")(b"1", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    echo.end()


# ---- our client ----

class PythonServer:
    """/test.Echo/ on grpcio: Talk echoes, Fail fails, Sleep waits for its end."""

    def __init__(self, credentials=None, options=(), compression=None):
        self.ended = threading.Event()
        self.seen = []
        handlers = {
            "Talk": grpc.stream_stream_rpc_method_handler(self._talk),
            "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
            "Sleep": grpc.stream_stream_rpc_method_handler(self._sleep),
        }
        self.server = grpc.server(futures.ThreadPoolExecutor(8), compression=compression,
                                  options=[*UNLIMITED, *options])
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Echo", handlers)])
        if credentials is None:
            self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        else:
            self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        self.server.start()

    def _talk(self, requests, context):
        self.seen = list(context.invocation_metadata())
        yield from requests

    def _fail(self, _, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100 % ü\n")

    def _sleep(self, _, context):
        context.add_callback(self.ended.set)
        yield b"awake"
        self.ended.wait(SOON_S)

    def close(self):
        self.ended.set()
        self.server.stop(None).wait(10)


@pytest.fixture
def new_server(closing):
    def make(*arguments, **options):
        closing.append(PythonServer(*arguments, **options))
        return closing[-1]
    return make


def line_of(message):
    return f"message {len(message)} {zlib.adler32(message)}"


def finished(echo):
    assert echo.process.wait(SOON_S) == 0, echo.errors()


def test_client_talks(new_server, new_echo):
    server = new_server()
    echo = new_echo("call", server.address, "/test.Echo/Talk", "--send", "hello", "--send", "",
                    "--fill", "3000000", "--meta", "authorization=Bearer t", "--meta", "clusterid=")
    assert echo.expect("message") == line_of(b"hello")
    assert echo.expect("message") == line_of(b"")
    assert echo.expect("message") == line_of(b"f" * 3000000)
    assert echo.expect("closed") == "closed 0 trailers whole "
    assert echo.expect("channel").startswith("channel 0 ")
    seen = dict(server.seen)
    assert seen["authorization"] == "Bearer t" and seen["clusterid"] == ""
    assert seen["user-agent"].startswith("outrigger/")
    finished(echo)


def test_client_talks_over_tls(new_server, new_echo, authority, tmp_path):
    server = new_server(grpc.ssl_server_credentials([authority.issue(["cp.mesh.test"])]))
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    echo = new_echo("call", server.address, "/test.Echo/Talk", "--ca", str(tmp_path / "root.pem"),
                    "--name", "cp.mesh.test", "--fill", "20000000")
    assert echo.expect("message") == line_of(b"f" * 20000000)
    assert echo.expect("closed") == "closed 0 trailers whole "
    finished(echo)
    echo = new_echo("call", server.address, "/test.Echo/Talk", "--ca", str(tmp_path / "root.pem"),
                    "--name", "other.mesh.test")
    line = echo.expect("channel")
    assert line.startswith("channel 14 2 TLS handshake with 127.0.0.1:")
    assert "certificate is valid for cp.mesh.test, not for other.mesh.test" in line
    finished(echo)


def test_compression_that_nobody_asked_for_is_refused(new_server, new_echo):
    """gRPC's server compresses when told so, whatever the client can take."""
    server = new_server(compression=grpc.Compression.Gzip)
    echo = new_echo("call", server.address, "/test.Echo/Talk", "--fill", "100000")
    assert echo.expect("closed") == ("closed 13 reset mid message is compressed, "
                                     "but no compression was agreed on")
    finished(echo)


def test_client_gets_status_and_text(new_server, new_echo):
    echo = new_echo("call", new_server().address, "/test.Echo/Fail", "--send", "x")
    assert echo.expect("closed") == "closed 9 trailers whole 100 % ü"
    finished(echo)


def test_client_gets_unimplemented(new_server, new_echo):
    echo = new_echo("call", new_server().address, "/test.Echo/Nothing", "--open")
    assert echo.expect("closed").startswith("closed 12 trailers whole ")
    finished(echo)


def test_client_deadline_resets_the_call(new_server, new_echo):
    server = new_server()
    echo = new_echo("call", server.address, "/test.Echo/Sleep", "--open", "--timeout", "300")
    assert echo.expect("message") == line_of(b"awake")
    assert echo.expect("closed") == "closed 4 reset whole deadline of 300 ms exceeded"
    assert server.ended.wait(SOON_S)
    finished(echo)


def test_killed_server_is_unavailable(new_server, new_echo, new_cable):
    server = new_server()
    cable = new_cable(int(server.address.split(":")[1]))
    echo = new_echo("call", cable.address, "/test.Echo/Sleep", "--open")
    echo.expect("message")
    cable.cut(with_reset=True)
    assert echo.expect("closed") == ("closed 14 reset whole connection lost: "
                                     "connection reset by peer")
    assert echo.expect("channel").startswith("channel 14 3 ")
    finished(echo)


def test_frozen_server_is_found_dead(new_server, new_echo, new_cable):
    server = new_server()
    cable = new_cable(int(server.address.split(":")[1]))
    echo = new_echo("call", cable.address, "/test.Echo/Sleep", "--open", "--keepalive", "1000")
    echo.expect("message")
    cable.freeze()
    line = echo.expect("closed")
    assert line.startswith("closed 14 reset whole connection lost: nothing received for 3000 ms")
    finished(echo)


def test_age_limit_is_told(new_server, new_echo):
    """As istiod does: GOAWAY twice, then the connection is closed after the grace."""
    server = new_server(options=[("grpc.max_connection_age_ms", 300),
                                 ("grpc.max_connection_age_grace_ms", 300)])
    echo = new_echo("call", server.address, "/test.Echo/Sleep", "--open")
    echo.expect("message")
    assert echo.expect("goaway") == "goaway 0 max_age"
    assert echo.expect("closed").startswith("closed 14 trailers whole ")
    finished(echo)


def test_nobody_listens(new_echo, tmp_path):
    echo = new_echo("call", f"unix:{tmp_path}/nobody", "/test.Echo/Talk")
    assert echo.expect("channel") == (f"channel 14 1 cannot connect to unix:{tmp_path}/nobody: "
                                      "no such file or directory")
    finished(echo)
