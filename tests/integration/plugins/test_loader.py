# SPDX-License-Identifier: Apache-2.0
"""Plugins from outside: how they are found, ordered, refused, started and taken down. Each is a
small .so that is compiled here against core's headers."""
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

from harness.agent import BINARY, BUILD_DIR, build_option, sanitizer_env
from harness.envoy import SOURCE_DIR
from harness.wait import wait_for

PROBE = os.path.join(os.path.dirname(__file__), "probe.c")


class Site:
    """A plugin directory, a role `probe` that names the plugins, and a configuration file."""

    def __init__(self, directory):
        self.dir = directory
        self.plugins = directory / "plugins"
        self.roles = directory / "roles"
        self.plugins.mkdir(mode=0o755)
        self.roles.mkdir()
        self.names = []
        self.log_path = directory / "log"

    def add(self, name, *defines):
        """Compiles probe.c as plugin `name`; each define is "X" or "X=value"."""
        out = self.plugins / f"{name}.so"
        subprocess.run([build_option("CMAKE_C_COMPILER"), "-shared", "-fPIC", "-O1", "-Wall",
                        "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{SOURCE_DIR}", f"-DPROBE={name}",
                        *("-D" + each for each in defines), PROBE, "-o", str(out)], check=True)
        out.chmod(0o755)
        self.names.append(name)
        return out

    def arguments(self, *more):
        role = "about: a role of this test\nplugins:\n" + "".join(f"- {n}\n" for n in self.names)
        (self.roles / "probe.yaml").write_text(role)
        return [BINARY, "probe", "--plugin-dir", str(self.plugins), "--role-dir", str(self.roles),
                *more]

    def env(self, **more):
        return {"PATH": os.environ["PATH"], **sanitizer_env(), **more}

    def run(self, *more, env=None):
        """To its end: (status, output)."""
        done = subprocess.run(self.arguments(*more), env=self.env(**(env or {})), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        return done.returncode, done.stdout

    def refusal(self, *more, env=None):
        """The one sentence with which the program did not come up."""
        status, output = self.run(*more, env=env)
        assert status == 1, output
        errors = [line.split("\t")[-1] for line in output.splitlines() if "\terror\t" in line]
        assert len(errors) == 1, output
        return errors[0]

    def start(self, *more):
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(self.arguments(*more), env=self.env(), stdout=self.log,
                                        stderr=self.log)
        return self.process

    def said(self):
        return probes(self.log_path.read_text())


def probes(output):
    """What the probes said, in order."""
    return [line.split("\t")[-1].split(" word=")[0] for line in output.splitlines()
            if "\tprobe\t" in line]


@pytest.fixture
def site(tmp_path):
    tmp_path.chmod(0o755)
    it = Site(tmp_path)
    yield it
    if hasattr(it, "process") and it.process.poll() is None:
        it.process.kill()
        it.process.wait()


# ---- refused, in one sentence each ----

def test_other_abi(site):
    site.add("alpha", "PROBE_ABI=99u")
    sentence = site.refusal()
    assert "alpha" in sentence and "99" in sentence and re.search(r"\b1\b", sentence)


def test_table_too_small(site):
    site.add("alpha", "PROBE_SIZE=16")
    assert re.search(r"alpha.*16", site.refusal())


def test_trailing_fields_may_be_missing(site):
    """Made against an older header: what came later reads as zero."""
    site.add("alpha", "PROBE_SIZE=offsetof(struct rig_plugin,status)", "PROBE_FAIL_INIT")
    assert "does not want" in site.refusal()


def test_symbol_missing(site):
    site.add("alpha", "PROBE_SYMBOL=something_else")
    sentence = site.refusal()
    assert "alpha" in sentence and "alpha_plugin" in sentence


def test_file_missing(site):
    site.names.append("alpha")
    assert f"{site.plugins}/alpha.so" in site.refusal()


def test_file_that_is_no_library(site):
    site.names.append("alpha")
    (site.plugins / "alpha.so").write_text("not a library")
    (site.plugins / "alpha.so").chmod(0o755)
    assert "alpha" in site.refusal()


def test_other_name_inside(site):
    site.add("alpha", 'PROBE_TITLE="omega"')
    sentence = site.refusal()
    assert "alpha" in sentence and "omega" in sentence


@pytest.mark.parametrize("name", ["../alpha", "Alpha", "a-b"])
def test_name_that_is_none(site, name):
    site.names.append(name)
    assert name in site.refusal()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_writable_by_others(site, what):
    path = site.add("alpha")
    (path if what == "file" else site.plugins).chmod(0o777)
    sentence = site.refusal()
    assert "alpha" in sentence and "written by others" in sentence
    assert "init" not in sentence


def test_sticky_file_is_no_directory(site):
    """The sticky bit keeps others from replacing files of a directory, not from writing one."""
    site.add("alpha").chmod(0o1777)
    assert "written by others" in site.refusal()


def test_link_into_a_directory_of_all(site, tmp_path):
    """Whoever may write there chooses what runs."""
    outside = tmp_path / "outside"
    outside.mkdir()
    site.add("alpha").rename(outside / "alpha.so")
    (site.plugins / "alpha.so").symlink_to(outside / "alpha.so")
    outside.chmod(0o777)
    sentence = site.refusal()
    assert "alpha" in sentence and str(outside) in sentence and "written by others" in sentence


def test_link_within_good_directories(site, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    site.add("alpha", "PROBE_FAIL_INIT").rename(outside / "alpha.so")
    (site.plugins / "alpha.so").symlink_to(outside / "alpha.so")
    assert "does not want to be initialised" in site.refusal()


def test_listed_twice(site):
    site.add("alpha")
    site.names.append("alpha")
    assert re.search(r"alpha.*twice", site.refusal())


def test_need_without_provider(site):
    site.add("alpha", 'PROBE_NEEDS="lamp"')
    sentence = site.refusal()
    assert "alpha" in sentence and "lamp" in sentence


def test_need_of_one_with_two_providers(site):
    site.add("alpha", 'PROBE_OFFERS="lamp"')
    site.add("beta", 'PROBE_OFFERS="lamp"')
    site.add("gamma", 'PROBE_NEEDS="lamp"')
    sentence = site.refusal()
    assert all(name in sentence for name in ("alpha", "beta", "gamma", "lamp"))


def test_circle(site):
    site.add("alpha", 'PROBE_OFFERS="lamp"', 'PROBE_NEEDS="wick"')
    site.add("beta", 'PROBE_OFFERS="wick"', 'PROBE_NEEDS="lamp"')
    sentence = site.refusal()
    assert "alpha" in sentence and "beta" in sentence and "circle" in sentence


@pytest.mark.parametrize("kind", ["RIG_NEED_OPTIONAL", "RIG_NEED_EACH"])
def test_need_that_may_go_without(site, kind):
    site.add("alpha", 'PROBE_NEEDS="lamp"', f"PROBE_NEED_KIND={kind}", "PROBE_FAIL_INIT")
    assert "does not want to be initialised" in site.refusal()


# ---- order, and the way back ----

def test_init_fails(site):
    """What came before is freed; nothing was started, so nothing is stopped."""
    site.add("gamma", 'PROBE_NEEDS="lamp"', "PROBE_FAIL_INIT")
    site.add("alpha", 'PROBE_OFFERS="lamp"')
    site.add("beta")
    status, output = site.run()
    assert status == 1
    assert "plugin gamma: it does not want to be initialised" in output
    # gamma stands before beta in the role, and waits only for its provider.
    assert probes(output) == ["alpha init", "gamma init", "alpha free"]


def test_start_fails(site):
    """Those that had started are stopped in reverse, one after the other; all are freed."""
    site.add("alpha", "PROBE_STOP_MS=30")
    site.add("beta")
    site.add("gamma", "PROBE_FAIL_START")
    site.add("delta")
    status, output = site.run()
    assert status == 1
    assert "plugin gamma: it does not want to start" in output
    assert probes(output) == [
        "alpha init", "beta init", "gamma init", "delta init",
        "alpha start", "beta start", "gamma start",
        "beta stop", "beta stopped", "alpha stop", "alpha stopped",
        "delta free", "gamma free", "beta free", "alpha free"]


def test_providers_first_and_all_back_on_a_signal(site):
    site.add("gamma", 'PROBE_NEEDS="lamp"', "PROBE_STOP_MS=30")
    site.add("alpha", 'PROBE_OFFERS="lamp"', 'PROBE_NEEDS="oil"')
    site.add("beta", 'PROBE_OFFERS="oil"')
    process = site.start()
    wait_for(lambda: "gamma start" in site.said(), what="all started")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert site.said() == [
        "beta init", "alpha init", "gamma init", "beta start", "alpha start", "gamma start",
        "gamma drain", "alpha drain", "beta drain",
        "gamma stop", "gamma stopped", "alpha stop", "alpha stopped", "beta stop", "beta stopped",
        "gamma free", "alpha free", "beta free"]


def test_drain_may_hold_until_a_second_signal(site):
    site.add("alpha", "PROBE_HOLDS")
    process = site.start()
    wait_for(lambda: "alpha start" in site.said(), what="started")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: "alpha drain" in site.said(), what="drained")
    assert process.poll() is None and "alpha stop" not in site.said()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert site.said()[-3:] == ["alpha stop", "alpha stopped", "alpha free"]


# ---- options ----

def config(site, text):
    path = site.dir / "outrigger.yaml"
    path.write_text(text)
    return "--config", str(path)


def test_unknown_key_has_file_and_line(site):
    site.add("alpha")
    sentence = site.refusal(*config(site, "alpha:\n  word: a\n  cuont: 4\n"))
    assert re.search(r"outrigger\.yaml:3: .*cuont", sentence)
    assert "count" in sentence, "the nearest key is offered"


def test_unknown_section_has_file_and_line(site):
    site.add("alpha")
    assert re.search(r"outrigger\.yaml:2: .*alhpa",
                     site.refusal(*config(site, "# comment\nalhpa:\n  word: a\n")))


@pytest.mark.parametrize("value", ["10", "0", "-1", "many", "[1]"])
def test_value_out_of_its_range_has_file_and_line(site, value):
    site.add("alpha")
    assert re.search(r"outrigger\.yaml:2: alpha\.count",
                     site.refusal(*config(site, f"alpha:\n  count: {value}\n")))


def test_file_that_is_no_yaml(site):
    site.add("alpha")
    assert "outrigger.yaml:" in site.refusal(*config(site, "alpha: [\n"))


def test_later_layers_win(site):
    site.add("alpha", "PROBE_FAIL_INIT")
    file = config(site, "alpha:\n  count: 4\n  word: file\n")

    def seen(*more, env=None):
        return re.search(r"init (word=\S+ count=\d+)", site.run(*more, env=env)[1]).group(1)

    assert seen() == "word=none count=3"
    assert seen(*file) == "word=file count=4"
    assert seen(*file, env={"PROBE_COUNT": "5"}) == "word=file count=5"
    assert seen(*file, env={"PROBE_COUNT": "5", "OUTRIGGER_ALPHA_COUNT": "6"}) == \
        "word=file count=6"
    assert seen(*file, "--probe-word=flag") == "word=flag count=4"


def test_unknown_flag_is_refused(site):
    site.add("alpha")
    assert "--probe-wrod" in site.refusal("--probe-wrod=x")


# ---- `outrigger plugins` ----

def plugins(directory, *more):
    return subprocess.run([BINARY, "plugins", "--plugin-dir", str(directory), *more], text=True,
                          env={"PATH": os.environ["PATH"], **sanitizer_env()},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)


def test_plugins_lists_what_is_there(site):
    site.add("alpha", 'PROBE_OFFERS="lamp"')
    site.add("beta", 'PROBE_NEEDS="lamp"')
    table = plugins(site.plugins)
    assert table.returncode == 0, table
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "ABI", "OFFERS", "NEEDS", "ABOUT"]
    assert lines[1].split()[:5] == ["alpha", "7.8.9", "1", "lamp", "-"]
    assert lines[2].split()[:5] == ["beta", "7.8.9", "1", "-", "lamp"]
    found = json.loads(plugins(site.plugins, "-o", "json").stdout)
    assert [each["name"] for each in found] == ["alpha", "beta"]
    assert found[0]["offers"] == ["lamp"] and found[1]["needs"] == ["lamp"]
    assert found[0]["abi"] == 1 and found[0]["about"] == "Says what is done with it"


def test_plugins_says_why_one_is_refused(site):
    site.add("alpha")
    site.add("beta", "PROBE_ABI=2u")
    listed = plugins(site.plugins)
    assert listed.returncode == 1
    assert re.search(r"^beta +refused: .*interface 2", listed.stdout, re.M)
    assert re.search(r"^alpha +7\.8\.9", listed.stdout, re.M)
    found = json.loads(plugins(site.plugins, "-o", "json").stdout)
    assert "interface 2" in found[1]["refused"]


def test_plugins_without_directory(site):
    listed = plugins(site.dir / "nowhere")
    assert listed.returncode == 1 and "nowhere" in listed.stderr


def test_all_of_ours_are_accepted():
    found = json.loads(plugins(os.path.join(BUILD_DIR, "lib/outrigger/plugins"),
                               "-o", "json").stdout)
    folders = {path.parent.name for path in pathlib.Path(SOURCE_DIR).glob("plugins/*/CMakeLists.txt")}
    assert {each["name"] for each in found} == folders - {"mesh"}
    for each in found:
        assert "refused" not in each and each["about"] and each["version"]


# ---- the process ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_command(number):
    """Its output is not taken: it cannot end by itself."""
    ours, theirs = os.pipe()
    try:
        os.set_blocking(theirs, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(theirs, bytes(4096))
        os.set_blocking(theirs, True)
        # Whoever runs the tests in the background of a shell has SIGINT ignored, and so has a child.
        process = subprocess.Popen([BINARY, "version"], stdout=theirs,
                                   env={"PATH": os.environ["PATH"], **sanitizer_env()},
                                   preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
        status = pathlib.Path(f"/proc/{process.pid}/status")
        wait_for(lambda: int(re.search(r"SigIgn:\s*(\w+)", status.read_text())[1], 16)
                 >> (signal.SIGPIPE - 1) & 1, what="the program has its signals set")
        process.send_signal(number)
        try:
            assert process.wait(timeout=10) == -number
        finally:
            process.kill()
    finally:
        os.close(ours)
        os.close(theirs)


def test_closed_standard_streams_are_nobodys(site, tmp_path):
    """Or the loop's own descriptors would take their numbers, and the log would go there."""
    site.add("alpha")
    log = tmp_path / "log"
    process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh",
                                *site.arguments("--log_target", str(log))], env=site.env())
    try:
        wait_for(lambda: log.exists() and "role probe" in log.read_text(),
                 what="the program is up")
        assert [os.readlink(f"/proc/{process.pid}/fd/{i}") for i in range(3)] == ["/dev/null"] * 3
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    finally:
        process.kill()
