"""The Jinja environment in which transformers renders chat templates, for the comparisons. Written from the description of
its behaviour, so that only jinja2 has to be installed, and neither transformers nor its dependencies."""
import datetime
import functools
import json

import jinja2
import jinja2.ext
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils


class Generation(jinja2.ext.Extension):
    """{% generation %}: records the spans of the assistant's text as offsets in the rendered output."""

    tags = {"generation"}

    def __init__(self, environment):
        super().__init__(environment)
        environment.generation = self
        self.blocks = self.spans = None

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

    def _note(self, caller):
        text = caller()
        if self.blocks is not None:
            begin = len("".join(self.blocks))
            self.spans.append([begin, begin + len(text)])
        return text


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, rest = args[0], args[1:]
        given = dict(*rest, **kwargs)
        for name in given:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, given)

    def __setitem__(self, name, value):
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError("underscore")


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    made.globals["dict"] = Dict()
    made.globals["namespace"] = Namespace
    return made


@functools.lru_cache(maxsize=4)
def compiled_template(made, template):
    return made.from_string(template)


def render(made, template, variables):
    """(text, spans), or the exception"""
    try:
        compiled = compiled_template(made, template)
        blocks, spans = [], []
        tracker = made.generation
        tracker.blocks, tracker.spans = blocks, spans
        try:
            for block in compiled.generate(**variables):
                blocks.append(block)
        finally:
            tracker.blocks = None
        return "".join(blocks), spans
    except RecursionError as error:
        return error
    except Exception as error:  # anything a template can raise
        return error


__all__ = ["environment", "render"]
