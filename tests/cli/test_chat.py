# SPDX-License-Identifier: MIT
"""chat as a person at a terminal and as a program meets it: Ctrl-C, pasted text and paths, several
lines, a full context, several pictures, a JSON line for every turn."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

from conftest import BIN, IMAGES, PATIENCE, PICTURE, ROOT, asleep, ok, refused, run, wait_for

TINYVLM = ROOT / "models" / "tinyvlm-25m.gguf"
OTHER = IMAGES / "rgb.png"


def chat(model, text, *options, **more):
    raw = text if isinstance(text, bytes) else text.encode()
    return run("chat", "-m", model, "--json", "-n", 4, *options, stdin=raw, **more)


def prompts(done):
    return [line["prompt"] for line in done.json()]


PROMPT, PASTE_OFF = "\x1b[?2004h> ", "\x1b[?2004l"  # what comes before and after each line that is read
# An answer that does not end by itself, but of more text than a terminal holds that nobody reads. One thread: when it
# sleeps, it waits for the terminal.
ENDLESS = ["--repeat-penalty", 0.1, "-n", 30000, "-c", 32768, "--threads", 1]


class Terminal:
    """A chat at a pseudo terminal. editor: with TERM=dumb there is none, the terminal has the line."""

    def __init__(self, model, *options, editor=True, locale="C.UTF-8"):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm" if editor else "dumb"
            os.environ["LC_ALL"] = locale
            os.execv(BIN, [str(BIN), "chat", "-m", str(model), *map(str, options)])
        self.seen = b""
        if "--json" in options:  # no prompt is between a program and its lines
            wait_for(self.reads)
        else:
            self.wait_for_prompt()

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 4096)
        except OSError:  # Linux: the other side is closed
            data = b""
        self.seen += data
        return bool(data)

    def wait_for(self, text):
        """Reads until `text` has come and returns all until then."""
        while text.encode() not in self.seen:
            assert self.read(PATIENCE), (text, self.seen)
        before, _, self.seen = self.seen.partition(text.encode())
        return before.decode("utf-8", "replace")

    def reads(self):
        """Whether keys reach the program: an editor has the terminal, or Ctrl-C leaves there what was typed."""
        flags = termios.tcgetattr(self.fd)[3]
        return bool(flags & termios.NOFLSH) or not flags & termios.ICANON

    def wait_for_prompt(self):
        """Reads until keys may be typed and returns all before the prompt."""
        before = self.wait_for(PROMPT)
        wait_for(self.reads)
        return clean(before)

    def type(self, text):
        os.write(self.fd, text.encode())

    def ask(self, text):
        """The answer to a line."""
        self.type(text + "\n")
        return self.wait_for_prompt()

    def interrupt(self, text):
        """The endless answer to a line, which Ctrl-C ends after some words, and after Ctrl-S has stopped the terminal."""
        self.type(text + "\n")
        self.wait_for(PASTE_OFF)
        while len(self.seen) < 100:
            assert self.read(PATIENCE), self.seen
        self.type("\x13")
        wait_for(lambda: asleep(self.pid))
        self.type("\x03")
        return self.wait_for_prompt()

    def leave(self, key=""):
        """The exit code after a key at the prompt."""
        done = []

        def gone():
            self.read(0)
            done[:] = os.waitpid(self.pid, os.WNOHANG)
            return done[0]

        self.type(key)
        wait_for(gone)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(done[1])


def clean(text):
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z~]", "", text)


@pytest.fixture(params=[True, False], ids=["editor", "plain"])
def editor(request):
    return request.param


# ---- Ctrl-C ----


def test_ctrl_c_at_an_empty_prompt_leaves(model, editor):
    t = Terminal(model, editor=editor)
    assert t.leave("\x03") == 130


def test_ctrl_c_takes_back_a_half_typed_line(model, editor):
    t = Terminal(model, "-n", 3, editor=editor)
    t.type("half a li")
    t.wait_for("half a li")  # by the editor, which has read it
    t.type("\x03")
    t.wait_for_prompt()
    assert "half" not in t.ask("/nothing")
    assert t.leave("\x03") == 130


def test_end_of_input_leaves(model, editor):
    t = Terminal(model, editor=editor)
    assert t.leave("\x04") == 0


def test_ctrl_c_stops_an_answer_and_keeps_the_conversation(model, editor, tmp_path):
    kept = tmp_path / "kept.chat"
    t = Terminal(model, *ENDLESS, "--session", kept, editor=editor)
    assert "tokens/s" in t.interrupt("b")
    assert "/what is not known" in t.ask("/what")
    assert t.leave("\x03") == 130
    (then,), (alone,) = (chat(model, "c\n", "-c", 32768, *more).json() for more in (["--session", kept], []))
    assert then["prompt_tokens"] > alone["prompt_tokens"] + 8


def test_ctrl_c_before_the_first_word(model):
    """Wherever it meets the answer, there is a line for the turn."""
    t = Terminal(model, "--json", *ENDLESS)
    for question in ("a", "b"):
        t.type(question + "\n")
        wait_for(lambda: not t.reads())
        t.type("\x03")
        t.wait_for('{"prompt"')
        turn = json.loads('{"prompt"' + t.wait_for("\r\n"))
        assert turn["finish"] == "interrupted"
        wait_for(t.reads)
    assert t.leave("\x03") == 130


def test_what_a_model_says_cannot_move_the_cursor():
    t = Terminal(TINYVLM, "--temperature", 5, "--seed", 3, "-n", 400, editor=False)
    t.type("Hm\n")
    answer = clean(t.wait_for("tokens/s"))
    assert len(answer) > 400
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", answer.replace("\r\n", "\n"))


def unread(pipe):
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def test_a_signal_ends_a_chat_through_pipes(model):
    options = ["-m", model, "--json", *ENDLESS]
    with subprocess.Popen([BIN, "chat", *map(str, options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"a\n")
        process.stdin.flush()
        wait_for(lambda: not unread(process.stdin))
        process.stdin.write(b"never asked\n")
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    (line,) = [json.loads(line) for line in out.splitlines()]
    assert line["prompt"] == "a" and line["finish"] == "interrupted"  # the line of every turn


# ---- several lines ----


def test_a_block_is_one_message(model):
    block = chat(model, '"""one\ntwo\n"""\n"""three"""\n"""\n/quit\n"""\n"""open\nto the end')
    assert prompts(block) == ["one\ntwo", "three", "/quit", "open\nto the end"]


def test_an_empty_block_is_no_message(model):
    assert prompts(chat(model, '"""\n \n"""\n""""""\n   \n\t\n\nx\n')) == ["x"]


def test_pasted_lines_are_one_message(editor):
    t = Terminal(TINYVLM, "-n", 2, editor=editor)
    assert "tokens/s" in t.ask("\x1b[200~is there\na dog?\x1b[201~")
    assert "tokens/s" not in t.ask("/what")  # there was no second turn
    assert t.leave("/quit \n") == 0


def has_editor():
    return "TVLM_EDIT:BOOL=ON" in (BIN.parent / "CMakeCache.txt").read_text()


@pytest.mark.skipif(not has_editor(), reason="built without libedit")
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_characters_beyond_ascii_are_typed(locale):
    t = Terminal(TINYVLM, "-n", 2, locale=locale)
    t.ask("caf\xe9 \u65e5?")
    assert "caf\xe9 \u65e5? again" in t.ask("\x1b[A again")  # the line before is there to be edited
    assert t.leave("/quit\n") == 0


def test_bytes_that_are_no_characters_are_typed(editor):
    """Half a character takes nothing with it, least of all Enter."""
    t = Terminal(TINYVLM, "-n", 2, editor=editor)
    os.write(t.fd, b"caf\xe9 au \xff lait\xe9?\xc3\n")
    typed = t.wait_for_prompt()
    if has_editor() and editor:
        assert "caf\ufffd au \ufffd lait\ufffd?\ufffd" in typed
    assert t.leave("/quit\n") == 0


def test_pasted_marks_mean_nothing_in_a_pipe(model):
    assert prompts(chat(model, "\x1b[200~a\nb\x1b[201~\n")) == ["\x1b[200~a", "b\x1b[201~"]


def test_no_prompt_and_no_codes_without_a_terminal(model):
    done = ok("chat", "-m", model, "-q", "-n", 3, stdin=b"Hello\n")
    assert not done.out.startswith(">") and "\x1b" not in done.out and done.err == ""


# ---- paths ----


@pytest.fixture
def folder(tmp_path):
    for name in ("my photo.jpg", "it's 100%.jpg", "plain.jpg"):
        (tmp_path / name).write_bytes(PICTURE.read_bytes())
    return tmp_path


PASTED = [
    "{}/plain.jpg",
    "{}/plain.jpg  \t",
    "{}/my photo.jpg",
    "'{}/my photo.jpg' ",
    '"{}/my photo.jpg"',
    "{}/my\\ photo.jpg ",
    "file://{}/my%20photo.jpg",
    "file://localhost{}/my%20photo.jpg",
    "{}/it's 100%.jpg",
    "'{}/it'\\''s 100%.jpg'",
    "{}/it\\'s\\ 100%.jpg",
    "file://{}/it%27s%20100%25.jpg",
    "~/my\\ photo.jpg",
    "~/plain.jpg",
]


@pytest.mark.parametrize("path", PASTED)
def test_pasted_paths(model, folder, path):
    text = path.format(folder)
    for line in (f"/image {text}\nWhat?\n", f"{text} What?\n"):
        done = chat(model, line, env={"HOME": str(folder)})
        assert done.code == 0, done.err
        (turn,) = done.json()
        assert turn["prompt"] == "What?" and turn["image"].startswith(f"{folder}/")
        assert os.path.exists(turn["image"])


def test_several_dropped_paths(model, folder):
    done = chat(model, f"'{folder}/my photo.jpg' {folder}/plain.jpg Compare them\n")
    (turn,) = done.json()
    assert turn["images"] == [f"{folder}/my photo.jpg", f"{folder}/plain.jpg"]
    assert turn["prompt"] == "Compare them"


def test_paths_relative_to_the_folder(model, folder):
    done = chat(model, "/image plain.jpg\n/image my photo.jpg\nWhat?\n", cwd=folder)
    assert done.json()[0]["images"] == ["plain.jpg", "my photo.jpg"]


def test_a_picture_alone_waits_for_its_question(model, folder):
    done = chat(model, f"{folder}/plain.jpg\nWhat?\n")
    assert [line["image"] for line in done.json()] == [f"{folder}/plain.jpg"]


def test_an_unknown_command_is_shown_without_control_characters(model):
    done = chat(model, "/no\x1b[31m\x07\n")
    assert "is not known" in done.err and "\x1b" not in done.err and "\x07" not in done.err


def test_what_is_no_path_is_a_message_or_an_unknown_command(model, folder):
    done = chat(model, f'"Hello" they said\n~ about\n/photos of dogs?\n/{folder}/none.jpg what?\n')
    assert prompts(done) == ['"Hello" they said', "~ about"]
    assert "/photos of dogs? is not known; there are /image FILE" in done.err
    assert done.err.count("is not known") == 2 and done.code == 0


def test_a_path_that_is_no_picture(model, folder):
    (folder / "notes.txt").write_text("hello")
    done = chat(model, f"{folder}/notes.txt what?\nStill there?\n")
    error, answer = done.json()
    assert error["error"]["code"] in ("format", "unsupported")
    assert "notes.txt" in error["error"]["message"] and answer["prompt"] == "Still there?"
    assert done.code == 3


def test_missing_pictures_are_named(model, folder):
    done = chat(model, "/image ~/none.jpg\n/image no such.jpg\n/image\n", env={"HOME": str(folder)})
    assert f"{folder}/none.jpg: cannot open" in done.err
    assert "no such.jpg: cannot open" in done.err and "/image needs an image" in done.err
    assert done.out == "" and done.code == 3


# ---- commands ----


@pytest.mark.parametrize("leave", ["/quit", "/quit ", "/exit\t", "/bye"])
def test_leaving(model, leave):
    done = chat(model, f"Hi\n{leave}\nnever read\n")
    assert prompts(done) == ["Hi"] and done.code == 0


def test_help(model):
    done = chat(model, "/help\n/?  \n")
    assert done.err.count("/image FILE...") == 2 and done.out == "" and done.code == 0


def test_reset_keeps_pictures_and_clear_does_not(model):
    done = chat(model, "Hi\n/reset\nHi\n/clear\nHi\n", "--image", PICTURE)
    first, again, without = done.json()
    assert first["text"] == again["text"] and again["image"] == str(PICTURE)
    assert first["prompt_tokens"] == again["prompt_tokens"]
    assert "image" not in without and without["prompt_tokens"] < first["prompt_tokens"]


# ---- several pictures ----


def test_two_pictures_in_one_question(model):
    def ask(*args):
        return ok("ask", "-m", model, "--json", "-n", 6, *args).json()[0]

    one, two = ask(PICTURE, "Compare"), ask(PICTURE, OTHER, "Compare")
    assert one["image"] == str(PICTURE) and two["images"] == [str(PICTURE), str(OTHER)]
    assert two["prompt_tokens"] == one["prompt_tokens"] + 5  # four positions and a newline
    same = [
        ask("-i", PICTURE, "-i", OTHER, "Compare"),
        ask("--image", PICTURE, OTHER, "--", "Compare"),
        ask(PICTURE, OTHER, "--", "Compare"),
    ]
    assert all(a["text"] == two["text"] and a["images"] == two["images"] for a in same)
    assert ask(OTHER, PICTURE, "Compare")["text"] != two["text"]
    dash = ask(PICTURE, "--", "-5 apples?")
    assert dash["prompt"] == "-5 apples?"
    talk = chat(model, "Compare\n", "-i", PICTURE, "-i", OTHER, "-n", 6).json()[0]
    assert talk["text"] == two["text"]


def test_many_pictures(model):
    pictures = [PICTURE] * 12  # more than a session's default
    done = ok("ask", "-m", model, "--json", "-n", 2, *pictures, "How many?").json()[0]
    assert len(done["images"]) == 12


def test_a_picture_more_keeps_the_conversation(model):
    done = chat(model, f"One?\n/image {OTHER}\nTwo?\nThree?\n", "--image", PICTURE)
    one, two, three = done.json()
    assert one["image"] == str(PICTURE) and two["image"] == str(OTHER) and "image" not in three
    assert one["prompt_tokens"] < two["prompt_tokens"] < three["prompt_tokens"]


def test_models_that_take_one_picture():
    two = "takes 1 image in one question, 2 were given"
    refused(4, two, "ask", "-m", TINYVLM, PICTURE, OTHER, "Compare")
    refused(4, two, "chat", "-m", TINYVLM, "-i", PICTURE, "-i", OTHER)
    done = chat(TINYVLM, f"What?\n/image {PICTURE} {OTHER}\n/image {OTHER}\nWhat?\n", "-i", PICTURE)
    first, second = done.json()
    assert two in done.err and done.code == 4
    assert first["image"] == str(PICTURE) and second["image"] == str(OTHER)
    assert second["prompt_tokens"] == first["prompt_tokens"]  # anew


# ---- the context ----


def test_a_full_context_drops_the_oldest_turns():
    done = run("chat", "-m", TINYVLM, "-n", 1, "--json", "-i", PICTURE, stdin=b"Hi\n" * 300)
    lines = done.json()
    assert done.code == 0 and len(lines) == 300
    assert all(line["finish"] in ("stop", "length") for line in lines)
    assert all(line["prompt_tokens"] <= 512 for line in lines)
    assert "the oldest" in done.err and "--no-shift" in done.err
    assert max(i["prompt_tokens"] for i in lines) > 450  # used before it is given up


def test_the_system_message_and_pictures_stay(model):
    options = ["--system", "Be brief.", "--ctx", 96, "-i", PICTURE]
    done = chat(model, "Hello there\n" * 12, *options)
    lines = done.json()
    assert done.code == 0 and len(lines) == 12 and "dropped" in done.err
    # what is left is what a fresh conversation of those turns would be: the picture's four positions,
    # the system message and the last question at least
    alone = chat(model, "Hello there\n", *options).json()[0]["prompt_tokens"]
    assert min(line["prompt_tokens"] for line in lines) >= alone


def test_no_shift_stops_and_names_the_ways_out(model):
    done = chat(model, "Hello there\n" * 12 + "/reset\nHello there\n", "--ctx", 96, "--no-shift")
    lines = done.json()
    failed = [line["error"] for line in lines if "error" in line]
    assert len(lines) == 13 and failed and "text" in lines[-1] and "text" in lines[0]
    for error in failed:
        assert error["code"] == "context" and "/reset" in error["message"]
        assert "--ctx" in error["message"] and "96" in error["message"]
    assert done.code == 4


def test_a_message_too_long_is_an_error_and_the_chat_goes_on(model):
    done = chat(model, "Hello\n" + "word " * 300 + "\nHello again\n", "--ctx", 96)
    first, error, last = done.json()
    assert re.search(r"needs \d+ positions.*the context has 96", error["error"]["message"])
    assert "text" in first and last["prompt"] == "Hello again"
    assert last["prompt_tokens"] > first["prompt_tokens"]  # nothing was dropped for it
    assert done.code == 4


def test_many_turns(model):
    done = chat(model, "a\n" * 700, "-n", 1, "--ctx", 256)  # 512 was a limit once
    assert len(done.json()) == 700 and done.code == 0


# ---- JSON ----


def test_every_turn_is_a_line_like_those_of_describe(model):
    (turn,) = chat(model, "Hello\n").json()
    (described,) = ok("describe", "-m", model, "--json", "-n", 4, PICTURE).json()
    assert set(described) - set(turn) == {"image"} and set(turn) <= set(described)
    assert set(turn["timings_ms"]) == set(described["timings_ms"])
    assert turn["finish"] == "length" and turn["tokens"] == 4


def test_any_bytes_are_a_message(model):
    done = chat(model, b"caf\xe9 \xff\nNUL \0 inside\n")
    assert prompts(done) == ["caf\ufffd \ufffd", "NUL \0 inside"]
