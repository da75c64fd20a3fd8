"""Runs the program on a model file and reads its JSON."""

import collections
import glob
import json
import os
import subprocess
import tempfile

import train.corpus as corpus

DEMO = "demo"  # pictures that are in neither group: for showing, never for training


def archives(root):
    return corpus.files(root, "all", "*.tar") + sorted(glob.glob(os.path.join(root, DEMO, "*.tar")))


class Engine(collections.namedtuple("Engine", "binary model root threads precision", defaults=[os.cpu_count(), "auto"])):
    def command(self, name, *rest):
        return [self.binary, name, "-m", self.model, "--threads", str(self.threads), "--precision", self.precision,
                "--quiet", *rest]

    def ask(self, rows, *options):
        """The command that asks a file of rows about the pictures of the data folder."""
        return self.command("eval", rows, *(o for path in archives(self.root) for o in ("--images", path)), *options)

    def lines(self, command):
        return [json.loads(line) for line in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()]

    def json(self, command):
        return self.lines(command)[0]

    def info(self):
        return self.json(self.command("info", "--json"))

    def eval(self, rows, *options):
        """The report, and the rows with their answers. rows: a file's path, or what is to be in it."""
        with tempfile.TemporaryDirectory() as folder:
            if not isinstance(rows, str):
                rows = write(os.path.join(folder, "rows.jsonl"), rows)
            answers = os.path.join(folder, "answers.jsonl")
            report = self.json(self.ask(rows, "--json", "--answers", answers, *options))
            return report, list(corpus.json_lines(answers))


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return path
