# SPDX-License-Identifier: MIT
"""Every command that writes or prints, where writing fails or is not an ordinary file.

Each time: the documented exit code, one line that says what happened, the old content whole,
nothing left behind. TVLM_BIN may name a sanitized build."""

import fcntl
import os
import pathlib
import resource
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import threading

import pytest

from conftest import BIN, GOLDEN, PATIENCE, PICTURE, ROOT, asleep, ok, refused, run, wait_for, wait_for_handler

LARGE = ROOT / "models" / "tinyvlm-25m.gguf"
PHOTO = ROOT / "examples" / "photos" / "astronaut.jpg"
WRITERS = ["convert", "quantize", "dump"]
ROOT_USER = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT_USER, reason="mknod and mount are for root")


def writer(command, model, out):
    return {
        "convert": ["convert", GOLDEN / "tiny", out, "-q"],
        "quantize": ["quantize", model, out, "--type", "q8_0", "-q"],
        "dump": ["dump", "-m", model, "-p", "x y " * 40, "-o", out, "--new-tokens", 0],
    }[command]


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
    """{command: the bytes that it writes};"""
    folder = tmp_path_factory.mktemp("results")
    for command in WRITERS:
        ok(*writer(command, model, folder / command))
    return {command: (folder / command).read_bytes() for command in WRITERS}


@pytest.fixture(autouse=True)
def temporaries(tmp_path_factory, monkeypatch):
    """TMPDIR of every run, empty before and after it."""
    folder = tmp_path_factory.mktemp("tmpdir")
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def mounted(tmp_path):
    """mounted(size) is a new tmpfs of that size."""
    places = []

    def mount(size):
        place = tmp_path / f"mount{len(places)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True
        )
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)


def node(path, minor):
    """A memory device of our own; never a name under /dev."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        os.close(os.open(path, os.O_WRONLY))
    except PermissionError:
        pytest.skip("no device nodes here")
    return path


def null(path):
    return node(path, 3)


def full(path):
    return node(path, 7)


def names(folder):
    return sorted(os.listdir(folder))


def start(*args, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([str(BIN), *map(str, args)], **options)


def shell(script, *args, stdin=b""):
    """`script` with "$@" as the program's call."""
    return subprocess.run(
        ["bash", "-c", script, "bash", str(BIN), *map(str, args)],
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
    )


class Reader(threading.Thread):
    """Reads a FIFO to its end, or `most` bytes of it."""

    def __init__(self, path, most=-1):
        super().__init__()
        self.path, self.most, self.data = path, most, None
        self.start()

    def run(self):
        with open(self.path, "rb", buffering=0) as f:
            self.data = f.read() if self.most < 0 else f.read(self.most)


# ---- files, links, devices ----


@pytest.mark.parametrize("command", WRITERS)
def test_files_keep_their_permissions(command, model, results, tmp_path):
    out = tmp_path / "out"
    ok(*writer(command, model, out))
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~mask
    for mode in (0o600, 0o664):
        out.write_bytes(b"old")
        out.chmod(mode)
        ok(*writer(command, model, out))
        assert stat.S_IMODE(out.stat().st_mode) == mode and out.read_bytes() == results[command]
    assert names(tmp_path) == ["out"]


@needs_root
def test_files_keep_their_owner(model, tmp_path):
    out = tmp_path / "out"
    out.write_bytes(b"old")
    os.chown(out, 1234, 4321)
    ok(*writer("quantize", model, out))
    assert (out.stat().st_uid, out.stat().st_gid) == (1234, 4321)


@pytest.mark.parametrize("command", WRITERS)
def test_links_are_written_through(command, model, results, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    links = {"link": "elsewhere/file", "second": "link", "dangling": "elsewhere/new"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
        ok(*writer(command, model, tmp_path / name))
        assert os.readlink(tmp_path / name) == target
        assert (tmp_path / name).read_bytes() == results[command]
    assert names(folder) == ["file", "new"] and names(tmp_path) == sorted(["elsewhere", *links])
    (tmp_path / "lost").symlink_to("no/such")
    refused(1, "lost: cannot write: No such file", *writer(command, model, tmp_path / "lost"))


@pytest.mark.parametrize("command", WRITERS)
def test_devices_are_written_through(command, model, tmp_path):
    null(tmp_path / "null")
    full(tmp_path / "full")
    (tmp_path / "link").symlink_to("full")
    before = {p: p.lstat() for p in tmp_path.iterdir()}
    ok(*writer(command, model, tmp_path / "null"))
    for name in ("full", "link"):
        message = f"{name}: cannot write: No space left on device"
        refused(1, message, *writer(command, model, tmp_path / name))
    assert {p: p.lstat()[:4] for p in tmp_path.iterdir()} == {p: s[:4] for p, s in before.items()}


@pytest.mark.parametrize("command", WRITERS)
def test_fifos_are_written_through(command, model, results, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo)
    ok(*writer(command, model, fifo))
    reader.join()
    assert reader.data == results[command]
    assert stat.S_ISFIFO(fifo.lstat().st_mode) and names(tmp_path) == ["fifo"]


def test_a_reader_that_leaves(model, results, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo, 10)
    refused(1, "fifo: cannot write: Broken pipe", *writer("quantize", model, fifo))
    reader.join()
    assert reader.data == results["quantize"][:10] and stat.S_ISFIFO(fifo.lstat().st_mode)


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/proc/self/fd/1"])
def test_standard_output_as_the_output(command, name, model, results, tmp_path):
    done = ok(*writer(command, model, name))
    assert done.raw == results[command]
    with open(tmp_path / "file", "wb") as f:  # a file that others hold open is appended to
        f.write(b"old")
        f.flush()
        assert start(*writer(command, model, name), stdout=f).wait() == 0
    assert (tmp_path / "file").read_bytes() == b"old" + results[command]
    with open(tmp_path / "log", "ab") as f:
        assert start(*writer(command, model, tmp_path / "log"), stderr=f).wait(PATIENCE) == 0
        f.write(b"more")
    assert (tmp_path / "log").read_bytes() == results[command] + b"more"
    assert names(tmp_path) == ["file", "log"]


@pytest.mark.parametrize("command", WRITERS)
def test_folders_and_lost_names(command, model, tmp_path):
    (tmp_path / "folder").mkdir()
    refused(1, "folder: is a folder", *writer(command, model, tmp_path / "folder"))
    for name in ("no/such", "new/", "folder/n" + 300 * "n"):
        refused(1, "cannot write: ", *writer(command, model, f"{tmp_path}/{name}"))
    refused(2, "the output has an empty name", *writer(command, model, ""))
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == []


def test_a_bad_tmpdir_is_named(model, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    reader = Reader(tmp_path / "fifo")
    refused(1, f"in {tmp_path / 'none'}: No such", *writer("quantize", model, tmp_path / "fifo"))
    reader.join()


# ---- no room, no right ----


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("exists", [False, True])
def test_full_disk(command, exists, model, mounted):
    folder = mounted("64k")
    if exists:
        (folder / "out").write_bytes(b"old")
    refused(1, "out: cannot write: No space left", *writer(command, model, folder / "out"))
    assert names(folder) == (["out"] if exists else [])
    assert not exists or (folder / "out").read_bytes() == b"old"


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))


@pytest.mark.parametrize("command", WRITERS)
def test_a_limit_on_the_size_of_files(command, model, tmp_path):
    """As a quota: the signal that comes with it does not end the program."""
    (tmp_path / "out").write_bytes(b"old")
    process = start(*writer(command, model, tmp_path / "out"), preexec_fn=limited)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and b"cannot write: File too large\n" in err, err
    assert names(tmp_path) == ["out"] and (tmp_path / "out").read_bytes() == b"old"


@pytest.fixture
def public():
    """A folder that everybody may enter, with the program in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        shutil.copy(BIN, folder / "tinyvlm")
        yield folder


def test_read_only(public, model, temporaries):
    """As nobody in particular: root may write everywhere."""
    nobody = {"user": 65534, "group": 65534} if ROOT_USER else {}
    shutil.copy(model, public / "in.gguf")
    open_folder, closed = public / "open", public / "closed"
    for folder in (open_folder, closed):
        folder.mkdir()
        (folder / "out").write_bytes(b"old")
    open_folder.chmod(0o777)
    (open_folder / "out").chmod(0o444)
    closed.chmod(0o555)
    (closed / "out").chmod(0o666)
    for out in (open_folder / "out", closed / "out", closed / "new"):
        done = subprocess.run(
            [public / "tinyvlm", "quantize", public / "in.gguf", out, "--type", "q8_0", "-q"],
            capture_output=True,
            cwd="/",
            **nobody,
        )
        assert done.returncode == 1, done
        assert done.stderr.decode() == f"tinyvlm: {out}: cannot write: Permission denied\n"
        assert names(out.parent) == ["out"] and (out.parent / "out").read_bytes() == b"old"
    closed.chmod(0o755)


def test_a_file_that_is_a_mount(model, tmp_path):
    """As `docker run -v file:file` makes it: it cannot be replaced, and stays as it is."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.write_bytes(b"old")
    inside.write_bytes(b"")
    if subprocess.run(["mount", "--bind", outside, inside], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        done = run("dump", "-m", model, "-p", "x", "--new-tokens", 0, "-o", inside)
        assert done.code == 1 and "mount its folder" in done.err and str(inside) in done.err
        assert inside.read_bytes() == b"old"
    finally:
        subprocess.run(["umount", inside], check=True)
    assert names(tmp_path) == ["inside", "outside"]


def test_read_only_file_system(mounted, model):
    folder = mounted("1m")
    (folder / "out").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    for name in ("out", "new"):
        refused(1, "Read-only file system", *writer("quantize", model, folder / name))
    assert names(folder) == ["out"] and (folder / "out").read_bytes() == b"old"


# ---- standard output ----

PRINTERS = {
    "help": ["--help"],
    "version": ["--version"],
    "command help": ["convert", "--help"],
    "describe": ["describe", "-m", "MODEL", "-q", "-n", 4, PICTURE],
    "describe --json": ["describe", "-m", "MODEL", "-q", "--json", "-n", 4, PICTURE],
    "ask": ["ask", "-m", "MODEL", "-q", "-n", 4, PICTURE, "What?"],
    "chat": ["chat", "-m", "MODEL", "-q", "-n", 4],
    "chat --json": ["chat", "-m", "MODEL", "-q", "--json", "-n", 4],
    "info": ["info", "MODEL"],
    "info --json": ["info", "--json", "MODEL"],
    "bench": ["bench", "-m", "MODEL", "--runs", 1, "-n", 2, "--no-peaks"],
    "bench --json": ["bench", "-m", "MODEL", "--runs", 1, "-n", 2, "--no-peaks", "--json"],
    "tokenize": ["tokenize", "-m", "MODEL", "a photo " * 2000],
    "tokenize --json": ["tokenize", "-m", "MODEL", "--json", "a photo"],
    "tokenize --decode": ["tokenize", "-m", "MODEL", "--decode", "40 41 42"],
}


@pytest.fixture(params=PRINTERS)
def printer(request, model):
    return [model if a == "MODEL" else a for a in PRINTERS[request.param]]


def test_standard_output_on_a_full_disk(printer, tmp_path):
    device = full(tmp_path / "full")
    with open(device, "wb") as f:
        process = start(*printer, stdout=f, stdin=subprocess.PIPE)
        _, err = process.communicate(b"Hello\nHello\nHello\n", timeout=PATIENCE)
    assert process.returncode == 1
    assert err == b"tinyvlm: cannot write to standard output: No space left on device\n"


def test_standard_output_closed(printer):
    done = shell('exec "$@" >&-', *printer, stdin=b"Hello\n")
    assert done.returncode == 1
    assert done.stderr == b"tinyvlm: cannot write to standard output: Bad file descriptor\n"


@pytest.mark.parametrize("ignored", [False, True])
def test_the_reader_of_standard_output_left(ignored, printer):
    """Quietly, whether SIGPIPE is ignored, as Python does, or not."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*printer, stdout=writer, stdin=subprocess.PIPE, restore_signals=not ignored)
    os.close(writer)
    _, err = process.communicate(b"Hello\nHello\n", timeout=PATIENCE)
    assert process.returncode == 141 and err == b""


def test_head(model):
    done = shell('"$@" | head -1', "describe", "-m", model, "-q", *[PICTURE] * 50, "-n", 3)
    assert done.stderr == b"" and done.stdout.count(b"\n") == 1


def test_a_limit_on_standard_output(model, tmp_path):
    """The last line does not fit."""
    with open(tmp_path / "out", "wb") as f:
        f.write(bytes(4990))
        f.flush()
        process = start("info", model, "--json", stdout=f, preexec_fn=limited)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == b"tinyvlm: cannot write to standard output: File too large\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_batch_stops_at_once(options, model, tmp_path):
    with open(full(tmp_path / "full"), "wb") as f:
        pictures = [PICTURE, *[f"/no/such/{i}.jpg" for i in range(1000)]]
        process = start("describe", "-m", model, "-q", "-n", 2, *options, *pictures, stdout=f)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err == b"tinyvlm: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", WRITERS)
def test_without_standard_streams(command, model, results, tmp_path):
    """No file takes the place of a stream that is closed."""
    done = shell('exec "$@" <&- >&- 2>&-', *writer(command, model, tmp_path / "out"))
    assert done.returncode == 0 and (tmp_path / "out").read_bytes() == results[command]
    done = shell('exec "$@" <&- >&- 2>&-', *writer(command, model, tmp_path / "no" / "out"))
    assert done.returncode == 1


def test_standard_input_closed(model):
    done = shell('exec "$@" <&-', "describe", "-m", model, "-")
    assert done.returncode == 3 and b"standard input: " in done.stderr


# ---- signals ----

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def writes(folder):
    return any(name.startswith(".tinyvlm-") for name in names(folder))


def while_writing(folder, act, prepare=lambda: None, source=LARGE):
    """Calls act(process) while the large model is written to folder/out, and all of it again if that came too late, as
    it may on a busy machine; exit code and standard error."""
    for _ in range(20):
        prepare()
        process = start("quantize", source, folder / "out", "--type", "f32", "-q")
        wait_for(lambda: process.poll() is not None or writes(folder))
        act(process)
        _, err = process.communicate(timeout=PATIENCE)
        if process.returncode:
            break
        (folder / "out").unlink()
    return process.returncode, err


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("exists", [False, True])
def test_signals_while_writing(number, exists, tmp_path):
    def prepare():
        if exists:
            (tmp_path / "out").write_bytes(b"old")

    code, _ = while_writing(tmp_path, lambda p: p.send_signal(number), prepare)
    assert code == 128 + number
    assert names(tmp_path) == (["out"] if exists else [])
    assert not exists or (tmp_path / "out").read_bytes() == b"old"


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGQUIT])
def test_a_second_signal_removes_temporaries_too(number, tmp_path):
    def act(process):
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)

    code, _ = while_writing(tmp_path, act)
    assert code in ([-signal.SIGQUIT] if number == signal.SIGQUIT else [130, 128 + number, 143])
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_ignored_signals_stay_ignored(number, tmp_path):
    def ignore():
        signal.signal(number, signal.SIG_IGN)

    process = start("quantize", LARGE, tmp_path / "out", "--type", "f16", "-q", preexec_fn=ignore)
    wait_for(lambda: process.poll() is not None or names(tmp_path))
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", WRITERS)
def test_signals_while_a_fifo_is_full(number, command, model, tmp_path, temporaries):
    """The reader does not read on; before that, while there is none."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = start(*writer(command, model, fifo))
    wait_for_handler(process, number)
    wait_for(lambda: asleep(process.pid))
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    process = start(*writer(command, model, fifo))
    with open(fifo, "rb", buffering=0) as f:
        assert f.read(1)
        wait_for(lambda: asleep(process.pid))
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number and names(tmp_path) == ["fifo"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["ask", "chat", "describe"])
def test_signals_while_standard_output_is_full(number, command, model):
    """One thread: when it sleeps, and what it was asked is read, it waits for its reader."""
    options = ["-m", model, "-q", "-t", 1, "-c", 4096, "--repeat-penalty", 0.1]
    args = {
        "ask": ["ask", *options, "-n", 4000, PICTURE, "b"],
        "chat": ["chat", *options, "-n", 4000],
        "describe": ["describe", *options, "-n", 1, "--json", *[PICTURE] * 500],
    }[command]
    reader, full_pipe = os.pipe()
    fcntl.fcntl(full_pipe, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen([BIN, *map(str, args)], stdin=subprocess.PIPE, stdout=full_pipe, stderr=subprocess.PIPE) as process:
        os.close(full_pipe)
        process.stdin.write(b"b\n")
        process.stdin.flush()
        assert select.select([reader], [], [], PATIENCE)[0]
        wait_for(lambda: asleep(process.pid))
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert process.stderr.read() == b""
    os.close(reader)


def wait_until_it_computes(process):
    """Until it has used a tenth of a second of a core: to load the model takes less."""

    def used():
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    wait_for(lambda: used() >= 0.1)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["describe", "dump", "bench"])
def test_signals_while_computing(number, command, model, tmp_path):
    args = {
        "describe": ["describe", "-n", 100000, "-c", 4096, *[PICTURE] * 500],
        "dump": ["dump", "-p", "x", "--new-tokens", 32000, "-c", 32768, "-o", tmp_path / "out"],
        "bench": ["bench", "--runs", 1000, "-n", 2000, "-c", 4096],
    }[command]
    process = start(args[0], "-m", model, "-q", *args[1:], stdout=subprocess.DEVNULL)
    wait_until_it_computes(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, err
    assert names(tmp_path) == []


# ---- inputs ----


def spellings(path, folder):
    """The file by other names; the links are made in `folder`."""
    hard, soft = folder / "hard", folder / "soft"
    os.link(path, hard)
    soft.symlink_to(path)
    where, name = path.parent, path.name
    return [path, hard, soft, f"{where}/./{name}", f"{where}/../{where.name}/{name}", f"{where}//{name}"]


def refused_as_input(path, args, cwd=None):
    before = path.read_bytes()
    done = run(*args, cwd=cwd)
    assert done.code == 2 and "would overwrite its source" in done.err, (args, done.err)
    assert done.err.count("\n") == 1 and path.read_bytes() == before


def test_quantize_never_writes_over_an_input(model, tmp_path):
    folder, pictures = tmp_path / "d", tmp_path / "pictures"
    folder.mkdir()
    pictures.mkdir()
    one = pathlib.Path(shutil.copy(model, folder / "m.gguf"))
    photo = pathlib.Path(shutil.copy(PHOTO, pictures / "a.jpg"))
    for a in spellings(one, tmp_path):
        refused_as_input(one, ["quantize", one, a, "--type", "q8_0"])
        refused_as_input(one, ["quantize", a, one, "--type", "q8_0"])
    for a in ("m.gguf", "./m.gguf", "../d/m.gguf"):
        refused_as_input(one, ["quantize", "m.gguf", a, "--type", "q8_0"], cwd=folder)
    calibrate = ["--type", "int8", "--calibrate", pictures]
    refused_as_input(photo, ["quantize", LARGE, photo, *calibrate])
    for name in ("out.gguf.part", "out.gguf.unchecked", "out.gguf.tmp"):
        other = pathlib.Path(shutil.copy(model, folder / name))
        ok("quantize", other, folder / "out.gguf", "--type", "q8_0", "-q")
        assert other.read_bytes() == model.read_bytes()
    assert names(folder) == ["m.gguf", "out.gguf", "out.gguf.part", "out.gguf.tmp", "out.gguf.unchecked"]


def test_convert_never_writes_over_an_input(tmp_path):
    folder = pathlib.Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "d"))
    before = names(folder)
    for name in before:
        where = tmp_path / f"links of {name}"
        where.mkdir()
        for a in spellings(folder / name, where):
            refused_as_input(folder / name, ["convert", folder, a])
        refused_as_input(folder / name, ["convert", ".", name], cwd=folder)
    other = tmp_path / "tokenizer"
    other.mkdir()
    one = pathlib.Path(shutil.copy(GOLDEN / "tiny" / "tokenizer.json", other))
    for given in (one, other):
        for a in (one, f"{other}/../tokenizer/tokenizer.json"):
            refused_as_input(one, ["convert", folder, a, "--tokenizer", given])
    for _ in range(2):  # a result may lie in the folder, and be made anew
        ok("convert", folder, folder / "model.gguf", "-q")
    assert names(folder) == sorted([*before, "model.gguf"])


def test_dump_never_writes_over_an_input(model, tmp_path):
    one = pathlib.Path(shutil.copy(model, tmp_path / "m.gguf"))
    photo = pathlib.Path(shutil.copy(PICTURE, tmp_path / "a.png"))
    links = tmp_path / "links"
    links.mkdir()
    rest = ["-p", "x", "--new-tokens", 0]
    for a in spellings(one, links):
        refused_as_input(one, ["dump", "-m", one, "-o", a, *rest])
    for a in (photo, f"{tmp_path}/./a.png"):
        refused_as_input(photo, ["dump", "-m", one, "--image", photo, "-o", a, *rest])
    before = photo.read_bytes()
    done = shell(
        'exec "$@" <' + str(photo), "dump", "-m", one, "--image", "-", "-o", photo, *rest
    )
    assert done.returncode == 2 and photo.read_bytes() == before
    assert names(tmp_path) == ["a.png", "links", "m.gguf"]


def test_an_output_appended_to_its_input(model, tmp_path):
    one = pathlib.Path(shutil.copy(model, tmp_path / "m.gguf"))
    for name in ("-", "/dev/stdout"):
        done = shell(f'exec "$@" >>{one}', "quantize", one, name, "--type", "q8_0")
        assert done.returncode == 2 and b"overwrite its source" in done.stderr
    assert one.read_bytes() == model.read_bytes()


def test_text_appended_to_its_input(model, tmp_path):
    one = pathlib.Path(shutil.copy(model, tmp_path / "m.gguf"))
    photo = pathlib.Path(shutil.copy(PHOTO, tmp_path / "a.jpg"))
    words = tmp_path / "words"
    words.write_text("What?\n")
    for path, args in (
        (one, ["info", one]),
        (one, ["info", "-m", tmp_path / ".." / tmp_path.name / "m.gguf"]),
        (one, ["describe", "-m", one, photo]),
        (photo, ["describe", "-m", model, "--json", photo]),
        (photo, ["ask", "-m", model, "-i", photo, "What?"]),
        (words, ["chat", "-m", model]),
        (words, ["tokenize", "-m", model]),
    ):
        before = path.read_bytes()
        for mode in (">>", "1<>"):
            done = shell(f'exec "$@" <{words} {mode}{path}', *args)
            assert done.returncode == 2 and b"overwrite its source" in done.stderr, (args, done)
            assert path.read_bytes() == before


def test_two_writers(tmp_path):
    expected = []
    for kind in ("f16", "q8_0"):
        ok("quantize", LARGE, tmp_path / kind, "--type", kind, "-q")
        expected.append((tmp_path / kind).read_bytes())
    both = [start("quantize", LARGE, tmp_path / "out", "--type", k, "-q") for k in ("f16", "q8_0")]
    assert [p.wait() for p in both] == [0, 0]
    assert (tmp_path / "out").read_bytes() in expected
    assert names(tmp_path) == ["f16", "out", "q8_0"]


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_inputs_that_are_cut(part, model, tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    cut = tmp_path / "cut.gguf"
    data = model.read_bytes()
    cut.write_bytes(data[: int(part * len(data))])
    refused(3, "cut.gguf", "quantize", cut, tmp_path / "out", "--type", "q8_0", "-q")
    folder = pathlib.Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "d"))
    weights = folder / "model.safetensors"
    os.truncate(weights, int(part * weights.stat().st_size))
    refused(3, "model.safetensors", "convert", folder, tmp_path / "out", "-q")
    assert names(tmp_path) == ["cut.gguf", "d", "out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_an_input_that_is_cut_while_it_is_read(tmp_path):
    one, folder = tmp_path / "in.gguf", tmp_path / "folder"
    folder.mkdir()
    code, err = while_writing(folder, lambda _: os.truncate(one, 1 << 20), lambda: shutil.copy(LARGE, one), one)
    assert code == 3 and b"in.gguf" in err, (code, err)
    assert names(folder) == []
