# SPDX-License-Identifier: Apache-2.0
"""The last screen: what the parts said, for somebody who sees this for the first time."""
import datetime

TYPE_NAMES = {
    "envoy.config.cluster.v3.Cluster": "clusters (CDS)",
    "envoy.config.endpoint.v3.ClusterLoadAssignment": "endpoints (EDS)",
    "envoy.config.listener.v3.Listener": "listeners (LDS)",
    "envoy.config.route.v3.RouteConfiguration": "routes (RDS)",
}

TAIL_LINES = 15


def heading(text):
    return ["", text, "-" * len(text)]


def table(rows):
    """Columns as wide as their widest cell; numbers to the right."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [str(cell).rjust(width) if isinstance(cell, (int, float)) or
                 str(cell).endswith(" MB") else str(cell).ljust(width)
                 for cell, width in zip(row, widths)]
        lines.append("  " + "   ".join(cells).rstrip())
    return lines


def short_type(type_url):
    return TYPE_NAMES.get(type_url.rpartition("/")[2], type_url.rpartition("/")[2])


def megabytes(kb):
    return f"{kb / 1024:.1f} MB"


def remaining(not_after):
    end = datetime.datetime.fromisoformat(not_after.replace("Z", "+00:00"))
    minutes = int((end - datetime.datetime.now(datetime.timezone.utc)).total_seconds() // 60)
    return f"in {minutes // 60} h {minutes % 60} min"


def request_lines(report):
    request = report["request"]
    parts = request["xForwardedClientCert"].split(";")
    return heading("Who talked to whom (in the words of the server's Envoy)") + [
        "  frontend app -> its Envoy == mutual TLS ==> greeter's Envoy -> greeter app",
        "",
        f"  answer                    {request['status']}, \"{request['greeting']}\"",
        f"  x-forwarded-client-cert   {parts[0]}",
        *("                            " + part for part in parts[1:]),
        f"  ssl.handshake             {request['sslHandshakesBefore']} before the request, "
        f"{request['sslHandshakes']} after it",
        "",
        "  greeter's Envoy wrote that header from the certificate it verified: URI is the caller,",
        "  By the called. The applications spoke plain HTTP and hold no key.",
    ]


def refusal_lines(report):
    no_certificate, not_allowed = report["noCertificate"], report["notAllowed"]
    return heading("Who was refused") + [
        f"  without a certificate     TLS alert \"{no_certificate['refusal']}\"; "
        f"ssl.fail_verify_no_cert +{no_certificate['failVerifyNoCert']}",
        f"  not on the list           HTTP {not_allowed['status']} \"{not_allowed['body']}\"; "
        f"rbac.denied +{not_allowed['rbacDenied']}",
        f"                            {not_allowed['identity']}",
        "",
        "  The intruder has a certificate of the same CA, and has pointed its own Envoy at greeter's;",
        "  the mesh file allows greeter to be called by the frontend alone.",
    ]


def certificate_lines(report):
    rows = [("workload", "key", "expires", "", "serial")]
    for sidecar in report["sidecars"]:
        certificate = sidecar["certificate"]
        rows.append((sidecar["name"], certificate["keyType"], certificate["notAfter"],
                     remaining(certificate["notAfter"]), certificate["serial"]))
    return heading("Certificates (as each Envoy holds them)") + table(rows) + [
        "",
        "  RSA is what Istio's agent takes; scripts/cert_policy.lua of this quickstart says P-256.",
    ]


def xds_lines(report):
    rows = [("workload", "type", "version", "messages", "resources", "bytes")]
    for sidecar in report["sidecars"]:
        for row in sidecar["xds"]:
            rows.append((sidecar["name"], short_type(row["typeUrl"]), row["version"] or "-",
                         row["pushes"], row["resources"], row["bytes"]))
    return heading("xDS received (counted by each agent on its way to Envoy)") + table(rows)


def timeline_lines(report):
    """One row for each event, one column for each sidecar, in the order of the first."""
    columns = [{mark["event"]: mark["ms"] for mark in sidecar["timeline"]}
               for sidecar in report["sidecars"]]
    events = sorted({event for column in columns for event in column},
                    key=lambda event: min(column.get(event, 1e9) for column in columns))
    rows = [("", *(sidecar["name"].rjust(9) for sidecar in report["sidecars"]))]
    for event in events:
        rows.append((event, *(f"{column[event]:.1f}".rjust(9) if event in column else
                              "-".rjust(9) for column in columns)))
    return heading("Start-up (ms since the start of each agent)") + table(rows) + [
        "",
        "  The intruder may be late, as its way to greeter is in Envoy's bootstrap: Envoy wants the",
        "  certificate for it before it has connected to the agent, and waits before it asks again.",
    ]


def memory_lines(report):
    rows = [("workload", "agent", "its Envoy")]
    for sidecar in report["sidecars"]:
        memory = sidecar["privateDirtyKb"]
        rows.append((sidecar["name"], megabytes(memory["agent"]), megabytes(memory["envoy"])))
    return heading("Private memory (Private_Dirty of the process)") + table(rows)


def url_lines(report):
    lines = heading("Still running; Ctrl-C ends it") + [
        f"  {report['urls']['frontendApp']:<44} asks greeter again, through both Envoys",
        f"  {report['urls']['intruderListener']:<44} tries it as the intruder: 403",
    ]
    for sidecar in report["sidecars"]:
        urls, name = sidecar["urls"], sidecar["name"]
        lines += [f"  {urls['envoyAdmin']:<44} {name}: Envoy's admin pages",
                  f"  {urls['agentStatus']:<44} {name}: the agent's status",
                  f"  {urls['metrics']:<44} {name}: Envoy's metrics"]
    return lines + [f"  {report['directory']:<44} files and logs"]


def story(report, stays):
    lines = (request_lines(report) + refusal_lines(report) + certificate_lines(report) +
             xds_lines(report) + timeline_lines(report) + memory_lines(report))
    if stays:
        lines += url_lines(report)
    else:
        lines += ["", f"Done in {report['seconds']:.1f} s; everything that was started ends now. "
                      "With --stay it goes on and prints its URLs."]
    return "\n".join(lines)


# ---- when it goes wrong ----

# What the log of a part says -> what to do about it.
ADVICE = (
    ("Envoy exited with error", "Envoy did not run: name another one with --envoy FILE, or remove "
                                ".deps/envoy, and it is fetched again."),
    ("address already in use", "Another program took that port in the meantime: run it again."),
)
GENERAL_ADVICE = ("Run it again with --keep-logs and read the logs; if it fails again, please "
                  "report it with them.")


def failure(err):
    lines = ["", f"The quickstart failed: {err}"]
    part = getattr(err, "part", None)
    log = part.log() if part is not None else ""
    if part is not None:
        # The list of flags that each program begins with helps nobody here.
        tail = [line for line in log.splitlines() if "\tFLAG: " not in line][-TAIL_LINES:]
        lines += [f"The last lines of the log of {part.name}:",
                  *("    " + line for line in tail or ["(it said nothing)"])]
    lines += [advice for words, advice in ADVICE if words in log.lower() or words in log]
    return "\n".join([*lines, GENERAL_ADVICE])
