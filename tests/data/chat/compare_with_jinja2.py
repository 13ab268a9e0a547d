"""Renders templates with Carillon's own engine and with jinja2, in the environment of transformers, and requires the same
text and the same spans of {% generation %}, or an error from both. Usage:
  compare_with_jinja2.py RENDER [FOLDER-WITH-TEMPLATES …] [--packages FOLDER] [--generated COUNT] [--seed S]"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import jinja2  # noqa: F401
except ImportError:
    print("jinja2 is not installed (tests/requirements.txt)")
    sys.exit(77)
import conversations
import generate_templates
import transformers_environment


class Engine:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def render(self, template, variables):
        self.process.stdin.write(json.dumps({"template": template, "variables": variables}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the engine ended on {template!r}")
        return json.loads(line)


# Refused on purpose although Python continues: text that contains addresses, and integers beyond 64 bits.
DELIBERATE = ("is printed, whose text differs", "beyond 64 bits", "not supported", "that is no character", "more steps", "makes more text")


class Comparison:
    def __init__(self, program):
        self.engine = Engine(program)
        self.jinja = transformers_environment.environment()
        self.same = self.errors = self.refused = 0
        self.different = []

    def compare(self, name, template, variables):
        ours = self.engine.render(template, variables)
        theirs = transformers_environment.render(self.jinja, template, variables)
        if isinstance(theirs, Exception):
            if "error" in ours:
                self.errors += 1
                return
            self.different.append((name, template, ours, repr(theirs)))
        elif "error" in ours:
            if any(word in ours["error"] for word in DELIBERATE):
                self.refused += 1
            else:
                self.different.append((name, template, ours, theirs))
        elif ours["text"] == theirs[0] and ours["spans"] == theirs[1]:
            self.same += 1
        else:
            self.different.append((name, template, ours, theirs))


# A package with the chat templates of common models. Installed without its dependencies.
PACKAGE = "trl==1.16.0"


def packaged_templates(folder):
    """The folder of the package's templates, downloaded once."""
    if not list(folder.glob("*.jinja")):
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE],
                                  capture_output=True, text=True)
            if done.returncode != 0:
                print(f"{PACKAGE} could not be fetched: {done.stderr.strip()}")
                sys.exit(77)
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(next(pathlib.Path(place).glob("*.whl"))) as wheel:
                for name in wheel.namelist():
                    if name.startswith("trl/chat_templates/") and name.endswith(".jinja"):
                        (folder / pathlib.PurePath(name).name).write_bytes(wheel.read(name))
    return folder


def qwen3_differences(comparison, folder):
    """The built-in qwen3 renders the same text as the model's own template."""
    mine = re.search(r'R"jinja\((.*?)\)jinja"', (pathlib.Path(__file__).parents[3] / "data/chat/built_in_templates.cpp").read_text(encoding="utf-8"), re.S)
    own = (folder / "qwen3.jinja").read_text(encoding="utf-8")
    count = 0
    for name, variables in conversations.variables():
        theirs = transformers_environment.render(comparison.jinja, own, variables)
        ours = comparison.engine.render(mine.group(1), variables)
        if isinstance(theirs, Exception):
            continue
        count += 1
        if ours.get("text") != theirs[0]:
            comparison.different.append((f"built-in qwen3: {name}", "", ours, theirs))
    if count < 50:
        raise SystemExit("qwen3's own template renders next to nothing")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("render")
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--generated", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--packages", type=pathlib.Path, help="fetch trl's templates into this folder, and compare them too")
    parser.add_argument("--show", type=int, default=10)
    given = parser.parse_args()
    comparison = Comparison(given.render)
    if given.packages:
        given.folders.append(packaged_templates(given.packages))
        qwen3_differences(comparison, given.packages)
    count = 0
    for folder in given.folders:
        for path in sorted(folder.glob("*.jinja")):
            count += 1
            for name, variables in conversations.variables():
                comparison.compare(f"{path.name}: {name}", path.read_text(encoding="utf-8"), variables)
    if given.folders and count == 0:
        raise SystemExit("no templates there")
    for name, template, variables in generate_templates.hand_written():
        comparison.compare(name, template, variables)
    for name, template, variables in generate_templates.generate(given.seed, given.generated):
        comparison.compare(name, template, variables)
    print(f"{count} templates: {comparison.same} renderings equal, {comparison.errors} refused by both, "
          f"{comparison.refused} refused on purpose, {len(comparison.different)} different")
    for name, template, ours, theirs in comparison.different[:given.show]:
        print(f"--- {name}\n{template if len(template) < 600 else ''}\n    ours   {str(ours)[:1500]}\n    jinja2 {str(theirs)[:1500]}")
    sys.exit(1 if comparison.different else 0)


if __name__ == "__main__":
    main()
