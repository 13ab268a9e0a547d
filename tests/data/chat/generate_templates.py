"""Templates for comparing engines: hand-written ones for each corner of the language, and generated ones (the same for a
seed on every machine)."""
import random

DATA = {
    "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e22, "small": 1.5e-7, "t": True, "no": False, "nothing": None,
    "s": "Hello, World", "e": "", "u": "Größe ß ΑΣ 漢字 🙂 İx", "w": "  padded\ttext \n", "q": "it's \"so\"", "html": "<a href='x'>&</a>",
    "list": [3, 1, 2], "names": ["bob", "Alice", "carol", "alice"], "mixed": [1, "two", None, 2.0, True, [1, [2]], {"k": "v"}],
    "empty": [], "d": {"b": 1, "a": 2, "C": 3, "items": "entry", "x y": None}, "nested": {"a": {"b": [{"c": "deep"}]}},
    "rows": [{"name": "x", "n": 2, "tags": ["p"]}, {"name": "Y", "n": 1}, {"name": "z", "n": 2, "tags": []}],
    "lines": "one\ntwo\r\n\n  three\n", "csv": "a,b,,c", "num": "42", "fl": "4.25", "hex": "0x1f", "nums": [1.5, 2, -4, 0.1],
    "pairs": [["k", 1], ["l", 2]], "code": "def f(x):\n    return x\n",
}

HAND_WRITTEN = r"""
{{ a.b if a is defined else 'none' }}
{{ d.items }}
{{ d['items'] }}{{ d.b }}{{ d['b'] }}{{ d.nope }}{{ d['nope'] is defined }}
{{ d.items() | list }}{{ d.keys() }}{{ d.values() }}{{ d.get('q') }}{{ d.get('q', 5) }}
{{ nested.a.b[0].c }}{{ nested['a']['b'][-1]['c'] }}
{{ nested.a.x.y }}
{{ missing }}|{{ missing.x }}
{{ missing + 1 }}
{{ list[0] }}{{ list[-1] }}{{ list[9] }}{{ list[1:] }}{{ list[::-1] }}{{ list[:-1] }}{{ list[0:10:2] }}{{ s[2:5] }}{{ u[::-1] }}{{ u[-2] }}
{{ list.0 }}{{ list[true] }}
{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 1 == 1.0 }}{{ true == 1 }}{{ 'a' < 'b' }}{{ [1,2] < [1,3] }}{{ 1 in list }}{{ 9 not in list }}
{{ 'a' < 1 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 4 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 1 / 0 }}
{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 'ab' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }} {{ 'a' ~ 1 ~ none ~ 2.0 ~ true }}
{{ 1 + 'a' }}
{{ 1e3 }} {{ 1E-5 }} {{ 1.0 }} {{ 100000000000000000.0 }} {{ 1e16 }} {{ 123456789.123456789 }} {{ 0.1 + 0.2 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1e400 }}
{{ mixed }} {{ d }} {{ (1,) }} {{ (1, 'a') }} {{ () }} {{ [q, 'it\'s', "tab\t", 'é\x00\u200b'] }}
{{ "a" "b" }}{{ 'x\ny\\z\q\101\x41\u00e9' }}
{{ s.upper() }}{{ s.lower() }}{{ s.title() }}{{ u.upper() }}|{{ u.lower() }}|{{ u.title() }}|{{ u.capitalize() }}|{{ u.swapcase() }}|{{ u.casefold() }}
{{ w.strip() }}|{{ w.lstrip() }}|{{ w.rstrip() }}|{{ s.strip('Hd') }}|{{ csv.split(',') }}{{ csv.split(',', 1) }}{{ w.split() }}{{ csv.rsplit(',', 1) }}{{ lines.splitlines() }}{{ lines.splitlines(true) }}{{ w.split(none, 0) }}
{{ csv.split('') }}
{{ s.startswith('He') }}{{ s.endswith(('x', 'ld')) }}{{ s.find('o') }}{{ s.rfind('o') }}{{ s.find('zz') }}{{ s.index('W') }}{{ s.count('l') }}{{ s.replace('l', 'L') }}{{ s.replace('l', 'L', 1) }}{{ e.replace('', '-') }}{{ 'abc'.replace('', '-', 2) }}
{{ s.index('zz') }}
{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.partition('x') }}{{ 'abc'.rpartition('x') }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('bc') }}
{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ 'x'.ljust(3, '.') }}{{ 'x'.rjust(3) }}{{ 'x'.center(4, '*') }}{{ 'xy'.center(5, '*') }}{{ 'a\tb'.expandtabs(4) }}
{{ 'abc'.isalpha() }}{{ '12'.isdigit() }}{{ '½'.isnumeric() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ 'Ab'.istitle() }}{{ 'ab'.islower() }}{{ 'AB'.isupper() }}{{ 'a_b'.isidentifier() }}{{ ''.isascii() }}
{{ ', '.join(names) }}{{ ','.join('abc') }}
{{ ','.join(list) }}
{{ '{} {1}'.format(1, 2) }}
{{ '{} {} {{}}'.format(1, 'a') }}{{ '{0}{1}{0}'.format('a', 'b') }}{{ '{x} {y[0]} {z.b}'.format(x=1, y=[2], z=d) }}{{ '{!r:>8}|{:<5}|{:^7}|{:+d}|{:08.3f}|{:,}|{:x}|{:#b}|{:e}|{:%}|{:.3}'.format('a', 'b', 'c', 5, 3.14159, 1234567, 255, 5, 12345.678, 0.25, 'abcdef') }}
{{ '%s %d %5.2f|%-5s|%05d|%x|%r|%%' % ('a', 5, 3.14159, 'b', 42, 255, 'c') }}{{ '%(b)s' % d }}{{ '%s' % 5 }}{{ '%s' | format(7) }}{{ '%(x)d' | format(x=3) }}
{{ '%d' % 'a' }}
{{ '%s %s' % ('a',) }}
{{ names | sort }}{{ names | sort(reverse=true) }}{{ names | sort(case_sensitive=true) }}{{ rows | sort(attribute='n') | map(attribute='name') | list }}{{ rows | sort(attribute='n,name') | map(attribute='name') | join }}
{{ mixed | sort }}
{{ d | dictsort }}{{ d | dictsort(true) }}{{ {'a': 2, 'b': 1} | dictsort(false, 'value') }}{{ d | dictsort(reverse=true) | first }}
{{ names | map('upper') | list }}{{ names | map('replace', 'a', 'A') | join('|') }}{{ rows | map(attribute='tags', default='-') | list }}{{ rows | map(attribute='tags.0') | map('default', 'q') | list }}
{{ rows | selectattr('tags') | map(attribute='name') | list }}{{ rows | selectattr('n', 'eq', 2) | list | length }}{{ rows | rejectattr('tags', 'defined') | list }}{{ list | select('odd') | list }}{{ list | reject('gt', 1) | list }}{{ mixed | select | list }}{{ mixed | select('string') | list }}
{{ rows | groupby('n') }}{% for k, g in rows | groupby('n') %}{{ k }}:{{ g | length }};{% endfor %}{% for g in rows | groupby('name') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}
{{ names | unique | list }}{{ names | unique(true) | list }}{{ list | sum }}{{ rows | sum(attribute='n') }}{{ nums | sum(start=10) }}{{ list | min }}{{ names | max }}{{ empty | max }}{{ nums | min }}
{{ list | first }}{{ list | last }}{{ empty | first }}{{ 'abc' | last }}{{ 'abc' | reverse }}{{ list | reverse | list }}{{ d | list }}{{ 'abc' | list }}{{ list | length }}{{ u | length }}{{ d | count }}
{{ list | map('string') | last }}
{{ n | length }}
{{ missing | default('x') }}{{ e | default('x') }}{{ e | default('x', true) }}{{ nothing | default('x') }}{{ nothing | d('x', boolean=true) }}{{ missing | length }}{{ missing | list }}{{ missing | join }}{{ missing | upper }}{{ missing | first is defined }}
{{ s | upper }}{{ s | lower }}{{ 'foo bar-baz (qux' | title }}{{ s | capitalize }}{{ w | trim }}|{{ s | trim('Hd') }}{{ s | replace('o', '0') }}{{ n | string ~ 1 }}{{ '5' | int + 1 }}{{ 'x' | int }}{{ 'x' | int(9) }}{{ fl | int }}{{ hex | int(0, 16) }}{{ fl | float }}{{ 'x' | float(1.5) }}{{ f | int }}{{ -2.7 | int }}{{ t | int }}
{{ 42.55 | round }}{{ 42.55 | round(1) }}{{ 42.55 | round(1, 'floor') }}{{ 42.5 | round }}{{ 43.5 | round }}{{ 5 | round }}{{ 1234.5 | round(-2) }}{{ 2.675 | round(2) }}{{ 42.1 | round(0, 'ceil') }}{{ neg | abs }}{{ -2.5 | abs }}
{{ code | indent }}|{{ code | indent(2, true) }}|{{ lines | indent(1, blank=true) }}|{{ code | indent('>>') }}|{{ code | indent(width=0) }}
{{ 'foo bar baz qux' | truncate(9) }}|{{ 'foo bar baz qux' | truncate(9, true) }}|{{ 'foo bar baz qux' | truncate(11) }}|{{ 'foo bar baz qux' | truncate(11, false, '!', 0) }}
{{ 'x' | center(5) }}|{{ s | wordcount }}|{{ html | e }}|{{ html | safe }}|{{ html | striptags }}|{{ html | forceescape }}|{{ (html | safe) + '<' }}|{{ html | urlencode }}|{{ {'a b': 'c&d'} | urlencode }}|{{ {'class': 'x', 'id': none} | xmlattr }}
{{ 1 | filesizeformat }}{{ 1000 | filesizeformat }}{{ 123456789 | filesizeformat }}{{ 2048 | filesizeformat(true) }}{{ '5' | filesizeformat }}
{{ list | batch(2) | list }}{{ list | batch(2, 'x') | list }}{{ [1,2,3,4,5,6,7] | slice(3) | list }}{{ [1,2,3,4,5] | slice(3, 'x') | list }}
{{ mixed | tojson }}{{ d | tojson(indent=2) }}{{ u | tojson }}{{ u | tojson(ensure_ascii=true) }}{{ d | tojson(separators=(',', ':')) }}{{ {'b': 1, 'a': [1, {}], 'c': []} | tojson(indent=4, sort_keys=true) }}{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}{{ big | tojson }}{{ '</script>\x7f\x01' | tojson }}{{ html | e | tojson }}{{ (1, 2) | tojson(indent='\t') }}
{{ missing | tojson }}
{{ d | attr('items') is callable }}{{ d | attr('b') is defined }}{{ d | items | list }}
{{ 1 is odd }}{{ 2 is even }}{{ 9 is divisibleby(3) }}{{ 9 is divisibleby 4 }}{{ x is defined }}{{ x is undefined }}{{ none is none }}{{ true is boolean }}{{ true is true }}{{ false is false }}{{ 1 is integer }}{{ true is integer }}{{ 1.0 is float }}{{ 'a' is lower }}{{ 'A' is upper }}{{ s is string }}{{ d is mapping }}{{ 1 is number }}{{ true is number }}
{{ s is sequence }}{{ d is sequence }}{{ n is sequence }}{{ missing is sequence }}{{ list is iterable }}{{ n is iterable }}{{ missing is iterable }}{{ range is callable }}{{ 1 is sameas 1 }}{{ none is sameas none }}{{ true is sameas 1 }}{{ s is escaped }}{{ 1 is in list }}{{ 'a' is in 'abc' }}{{ 1 is eq 1 }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 2 is ge 2 }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 1 is not none }}{{ not 1 is none }}
{% if x is nosuchtest %}a{% endif %}
{% if false %}{{ x | nosuch }}{% endif %}ok
{{ x | nosuch }}
{{ 'a' if true }}{{ 'a' if false }}{{ 'a' if false else 'b' if false else 'c' }}{{ (1 if false) is defined }}{{ none or 'x' }}{{ 0 and 1 }}{{ '' or [] or {} }}{{ not '' }}
{% for i in list %}{{ i }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(i > 1) }}{{ loop.depth }}{% else %}none{% endfor %}
{% for i in empty %}x{% else %}none{% endfor %}{% for i in missing %}x{% else %}none{% endfor %}
{% for i in list if i > 1 %}{{ i }}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in 'añ' %}[{{ c }}]{% endfor %}{% for a, b in pairs %}{{ a }}{{ b }}{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}
{% for a, b in list %}{% endfor %}
{% for i in n %}{% endfor %}
{% for i in [1,2,3,4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% else %}else{% endfor %}
{% for i in [1] %}{% continue %}{% else %}else{% endfor %}{% for i in [1] %}{% break %}{% else %}else{% endfor %}{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}
{% set x = 1 %}{% for i in list %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(x=1, found=false) %}{% for i in list %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.found }}{{ ns.y }}{{ ns['x'] }}{{ ns }}
{% set d.x = 1 %}
{% set ns = namespace(_a=1) %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set (a, b) = [3, 4] %}{{ a + b }}{% set t = 1, 2 %}{{ t }}
{% set block %}  text {{ n }} {% endset %}[{{ block }}]{% set up | upper | replace('T', 't') %}text{% endset %}{{ up }}
{% if true %}{% set y = 5 %}{% endif %}{{ y }}{% if false %}{% set n = 5 %}{% endif %}{{ n }}
{% macro f(a, b=2, c=a) %}[{{ a }},{{ b }},{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ f(1, 2, 3, 4, k=5) }}{{ f() }}{{ f.name }}{{ f.arguments }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}
{% macro f() %}({{ caller() }}){% endmacro %}{% call f() %}in{{ n }}{% endcall %}{% macro g() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) g() %}{{ a }}{{ b }}{% endcall %}
{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}
{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% set x = 1 %}{{ f() }}{% for i in [1] %}{% set x = 2 %}{{ f() }}{% endfor %}
{% macro f() %}{{ n }}{% endmacro %}{{ f() }}{% set n = 1 %}{{ f() }}
{% macro fac(k) %}{% if k < 2 %}1{% else %}{{ k * (fac(k - 1) | int) }}{% endif %}{% endmacro %}{{ fac(6) }}
{% macro loopy() %}{{ loopy() }}{% endmacro %}{{ loopy() }}
{% for x in [[1, [2]], [3]] recursive %}({% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}@{{ loop.depth }}{% endif %}){% endfor %}
{% filter upper %}text {{ s }}{% endfilter %}{% filter replace('a', 'b') | upper %}aaa{% endfilter %}
{% with a = 1, b = 2 %}{{ a + b }}{% set c = 3 %}{{ c }}{% endwith %}{{ c }}{{ a }}
{% block one %}A{{ n }}{% endblock %}{{ self.one() }}{% for i in list %}{% block two scoped %}{{ i }}{% endblock %}{% endfor %}
{% for i in list %}{% block three %}{{ i }}{% endblock %}{% endfor %}
{% print 1, 'a' %}
{% raw %}{{ x }} {% if %}{% endraw %}|{%- raw -%}  {{ y }}  {%- endraw -%}  |
{# comment #}a{#- comment -#} b {# multi
line #}
c
{% if true %}
  text
{% endif %}
    {% if true %}
    x
    {%- endif %}
  {{ n }}  {%- if true -%}  y  {%- endif +%}
z
    {%+ if true %}keep{% endif %}
{{- n -}}   {{ n }}
{% generation %}abc{{ n }}{% endgeneration %}é{% generation %}é{% endgeneration %}x
{% for i in list %}{% generation %}{{ i }}{% set q = 1 %}{% endgeneration %}{{ q }}-{% endfor %}
{% macro g() %}{% generation %}in{% endgeneration %}{% endmacro %}before {{ g() }} after{% set b %}{% generation %}set{% endgeneration %}{% endset %}{{ b }}
{% for i in list %}{% generation %}{{ loop.index }}{% endgeneration %}{% endfor %}
{% include 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% extends 'x' %}
{% do list.append(1) %}
{% nosuch %}
{% if %}
{% if true %}
{% endif %}
{{ }}
{{ 1 + }}
{{ 'abc }}
{{ a b }}
{{ (1 }}
{{ [1 }}
{{ x | }}
{% for %}
{% set 1 = 2 %}
{% set loop = 1 %}
{% for loop in list %}{% endfor %}
{% break %}
{{ $ }}
{{ a is b is c }}
{{ raise_exception('no') }}
{{ list.append(1) }}
{{ d.update({}) }}{{ d.pop }}
{{ s.__class__ }}
{{ s.__class__.__mro__ }}
{{ ''.__class__ is defined }}{{ d.__x is defined }}
{{ dict(a=1, b=2) }}{{ dict([('a', 1)]) }}{{ dict({'a': 1}, b=2) }}{{ {'a': 1}.items() }}{{ dict.fromkeys(['a', 'b'], 0) }}
{{ {'a': 1, **{'b': 2}} }}
{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}
{{ range(3) }}{{ range(3) | list }}{{ range(1, 10, 3)[-1] }}{{ 4 in range(1, 10, 3) }}{{ range(200000) | length }}
{{ list.index(1) }}{{ list.count(3) }}{{ (1, 2, 1).count(1) }}{{ list.copy() }}
{{ f(*[1]) }}
{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'a': 1, 'b': 2}) }}{{ f(1, *[2]) }}
{{ loop }}
{{ loop.index }}
{% for i in list %}{% for j in list %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for i in list %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}
{% set x = list | map('upper') %}{{ x | list }}{{ x | list }}{% if empty | map('upper') %}truthy{% endif %}
{{ names | select('startswith', 'a') | list }}
{{ names | select('in', ['bob']) | list }}{{ rows | map('length') | list }}
{{ 'a' in d }}{{ 'zz' in s }}{{ none in mixed }}{{ [] in [[]] }}{{ 1 in missing }}
{{ 1 in s }}
{{ {} == {} }}{{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }}{{ [1, 2] == (1, 2) }}{{ missing == missing2 }}{{ none == false }}{{ 'a' == 'a' }}{{ 0.5 == 1 / 2 }}
{{ n.real }}{{ f.is_integer() }}{{ none.x }}{{ n['x'] }}{{ list.x is defined }}{{ s.nope is defined }}
{{ "{% raw %}" }}{{ '}}' }}{{ {'a': {'b': 1}}['a'] }}{{ {'a':{}}}}
{{ 10 if n > 5 else 20 }}{{ (n > 5) ~ '' }}{{ n == 7 and f > 2 or false }}{{ 5 - -3 }}{{ - n }}{{ +n }}{{ -n | abs }}{{ (-n) | abs }}
{{ u.encode('utf-8') }}
{{ s | wordwrap(3) }}
{{ d | pprint }}
{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}{{ False }}{{ truE }}
{{ "\N{BULLET}" }}
{{ '\ud800' }}
{% if n %}a{% elif s %}b{% else %}c{% endif %}{% if z %}a{% elif s %}b{% endif %}{% if z %}{% elif e %}{% else %}c{% endif %}
{% if not z and not e or missing %}x{% endif %}
{{ namespace(a=1).a }}{{ namespace({'b': 2}).b }}
{%- set content = '<think>a</think>b' -%}{{ content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') }}{{ content.split('</think>')[-1] }}
{{ [1, 2, 3] | map('string') | join(', ') }}{{ d.keys() | list | join }}{{ d | map('upper') | list }}{{ 'x' ~ missing ~ none }}
{{ (s | safe).upper() }}{{ (s | safe) ~ html }}{{ '<%s>' | safe | format(html) }}{{ (html | safe).replace('a', '<') }}{{ ('<' | safe).join([html, 'x']) }}{{ [html | safe] }}{{ ('a' | safe) * 2 + '<' }}{{ html + ('&' | safe) }}
{{ 3.0 }}{{ 3.0 | int }}{{ 1e22 }}{{ 1.5e-7 }}{{ 5e-324 }}{{ 1.7976931348623157e308 }}{{ -0.0 }}{{ 123456789012345680.0 }}{{ 0.0001 }}{{ 0.00001 }}
{{ 9223372036854775807 }}{{ 9223372036854775807 + 1 }}
{{ s[None:2] }}{{ s['a'] is defined }}{{ list['0'] is defined }}{{ d[1] is defined }}{{ {1: 'x'}[1] }}{{ {1: 'x'}[true] }}{{ {(1, 2): 'y'}[1, 2] }}
{{ d[[1]] is defined }}
{{ {[1]: 2} }}
{{ list | join(attribute='x') }}{{ rows | join(', ', attribute='name') }}{{ rows | map(attribute='nope') | join('-') }}
{{ nums | map('round') | list }}{{ nums | map('int') | list }}{{ ['1', 'x'] | map('int', -1) | list }}
{{ missing() }}
{{ n() }}
{{ s.upper }}
{% set x %}{% endset %}[{{ x }}]{% set x = [] + [n] %}{{ x }}{% set x = x + ['b'] %}{{ x }}
""".strip("\n")


def hand_written():
    # Lines that belong to an open comment or block are joined; every other line is a template.
    templates, open_lines = [], []
    for line in HAND_WRITTEN.split("\n"):
        open_lines.append(line)
        text = "\n".join(open_lines)
        if text.count("{#") > text.count("#}"):
            continue
        templates.append(text)
        open_lines = []
    for number, template in enumerate(templates):
        yield f"hand-written {number}", template, DATA
    # The templates that do not fail as one text, to test newlines and indentation between tags.
    yield "white space", WHITE_SPACE, DATA
    for sign_open in ("", "-", "+"):
        for sign_close in ("", "-", "+"):
            for before in ("a\n  ", "a  ", "  ", "\n\n", ""):
                for after in ("\n  b", "  b", " \n\nb", ""):
                    for inside in ("if true", "set q = 1", "# note #", "raw", "{ n "):
                        yield from white_space(sign_open, sign_close, before, after, inside)


def white_space(sign_open, sign_close, before, after, inside):
    name = f"white space {sign_open!r} {sign_close!r} {before!r} {after!r} {inside!r}"
    if inside.startswith("#"):
        template = f"{before}{{#{sign_open}note{sign_close}#}}{after}"
    elif inside.startswith("{"):
        template = f"{before}{{{{{sign_open} n {'' if sign_close == '+' else sign_close}}}}}{after}"
    elif inside == "raw":
        close = "" if sign_close == "+" else sign_close
        template = f"{before}{{%{sign_open} raw {close}%}}{after}{{{{x}}}}{before}{{%{sign_open} endraw {sign_close}%}}{after}"
    elif inside.startswith("if"):
        template = f"{before}{{%{sign_open} if true {sign_close}%}}{after}{{%{sign_open} endif {sign_close}%}}{after}"
    else:
        template = f"{before}{{%{sign_open} {inside} {sign_close}%}}{after}"
    yield name, template, DATA


WHITE_SPACE = """
{% for i in list %}
    {% if i > 1 %}
  item {{ i }}
    {% else %}
  other
    {% endif %}
{% endfor %}

{#
 comment
#}
  {{ n }}
{% set x = 1 %}
\t{%- if x %}
end
{% endif -%}

"""

NAMES = [name for name in DATA] + ["missing"]
FILTERS = ["upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "sort", "reverse", "string", "int",
           "float", "abs", "round", "join", "join(', ')", "default('x')", "default('x', true)", "tojson", "tojson(indent=1)", "sum",
           "min", "max", "unique|list", "map('string')|list", "select|list", "reject('none')|list", "map('upper')|list", "items|list",
           "dictsort", "batch(2)|list", "slice(2)|list", "replace('a', 'b')", "indent", "wordcount", "center(9)", "e", "safe",
           "truncate(5, true, '', 0)", "map(attribute='name')|list", "selectattr('n')|list", "count", "d", "striptags", "urlencode",
           "groupby('n')|list", "format(1)", "filesizeformat", "attr('real')", "xmlattr"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "true", "false", "integer",
         "float", "odd", "even", "lower", "upper", "callable", "escaped", "divisibleby(2)", "in(list)", "eq(n)", "sameas(none)", "gt(1)"]
METHODS = ["upper()", "lower()", "title()", "strip()", "split()", "split(',')", "splitlines()", "items()|list", "keys()|list",
           "get('a')", "get('q', 1)", "startswith('H')", "endswith('d')", "replace('l', 'r')", "find('o')", "count('l')", "isdigit()",
           "format(1, 2)", "join(names)", "partition(',')", "rsplit(None, 1)", "capitalize()", "swapcase()", "index(1)", "zfill(5)",
           "values()|list", "lstrip('H')", "copy()", "is_integer()", "casefold()", "isalpha()", "istitle()", "rpartition('o')"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in", "**"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, choices):
        return choices[self.random.randrange(len(choices))]

    def literal(self):
        return self.pick(["0", "1", "-2", "3", "2.5", "1e3", "'a'", "''", '"it\'s"', "'é'", "true", "false", "none", "[]", "{}", "[1, 'b']",
                          "{'k': 1, 'a': [2]}", "(1, 2)", "'Hello, World'", "0.1", "'%s'", "'{}'", "range(3)"])

    def expression(self, depth):
        if depth <= 0:
            return self.pick([self.pick(NAMES), self.pick(NAMES), self.literal()])
        sub = self.expression
        kind = self.random.randrange(13)
        if kind == 0:
            return f"({sub(depth - 1)} {self.pick(OPERATORS)} {sub(depth - 1)})"
        if kind in (1, 2):
            return f"({sub(depth - 1)})|{self.pick(FILTERS)}"
        if kind == 3:
            return f"({sub(depth - 1)} is {self.pick(['', 'not '])}{self.pick(TESTS)})"
        if kind in (4, 5):
            return f"({sub(depth - 1)}).{self.pick(METHODS)}"
        if kind == 6:
            # Slice only names: jinja2 slices a constant at compile time, where slicing an unsliceable value gives undefined,
            # but at render time that is an error.
            if self.random.randrange(2) == 0:
                return f"{self.pick(NAMES)}[{self.pick(['1:', ':-1', '::-1', '1:3', '::2', '-2:', ':0:-1'])}]"
            return f"({sub(depth - 1)})[{self.pick(['0', '-1', repr('a'), repr('name'), '5', 'n', 'true'])}]"
        if kind == 7:
            return f"({sub(depth - 1)} if {sub(depth - 1)} else {sub(depth - 1)})"
        if kind == 8:
            return f"[{sub(depth - 1)}, {sub(depth - 2)}]"
        if kind == 9:
            return f"{{'p': {sub(depth - 1)}, 'q': {sub(depth - 2)}}}"
        if kind == 10:
            return f"({self.pick(['-', '+', 'not '])}{sub(depth - 1)})"
        if kind == 11:
            return f"({sub(depth - 1)} {self.pick(['<', '<=', '==', '!='])} {sub(depth - 1)} {self.pick(['<', '>', '=='])} {sub(depth - 2)})"
        return f"({sub(depth - 1)}).{self.pick(['a', 'b', 'name', 'x', 'items', '0'])}"

    def statement(self, depth):
        sub = self.body
        kind = self.random.randrange(12)
        sign = lambda: self.pick(["", "", "", "-", "+"])
        tag = lambda text: f"{{%{sign()} {text} {sign()}%}}"
        space = lambda: self.pick(["", " ", "\n", "  \n  ", "text", "\n\n", "é\n"])
        if depth <= 0 or kind < 4:
            return f"{space()}{{{{{self.pick(['', '-'])} {self.expression(2)} {self.pick(['', '-'])}}}}}{space()}"
        if kind == 4:
            return f"{tag('if ' + self.expression(1))}{sub(depth - 1)}{tag('else')}{sub(depth - 1)}{tag('endif')}"
        if kind == 5:
            over = self.pick(["list", "names", "rows", "d", "range(3)", "empty", "u", "mixed", "nums"])
            extra = self.pick(["", "", " if i", " if loop is undefined"])
            inner = self.pick(["", "{{ loop.index }}", "{{ loop.last }}", "{{ i }}", "{% if loop.index > 2 %}{% break %}{% endif %}",
                               "{% if loop.first %}{% continue %}{% endif %}", "{% set v = i %}", "{% set ns.v = i %}"])
            return f"{tag('for i in ' + over + extra)}{inner}{sub(depth - 1)}{tag('else')}{space()}{tag('endfor')}{{{{ v }}}}"
        if kind == 6:
            return f"{tag('set v = ' + self.expression(2))}{space()}{{{{ v }}}}"
        if kind == 7:
            return f"{tag('set v')}{sub(depth - 1)}{tag('endset')}{{{{ v|length }}}}"
        if kind == 8:
            return f"{tag('macro m(a, b=' + self.expression(1) + ')')}{{{{ a }}}}{sub(depth - 1)}{tag('endmacro')}{{{{ m({self.expression(1)}) }}}}"
        if kind == 9:
            return f"{tag('generation')}{sub(depth - 1)}{tag('endgeneration')}"
        if kind == 10:
            return f"{tag('set ns.v = ' + self.expression(1))}{{{{ ns.v }}}}{{# {space()} #}}"
        return f"{tag('filter ' + self.pick(['upper', 'trim', 'length', 'indent']))}{sub(depth - 1)}{tag('endfilter')}"

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.random.randrange(1, 3)))


def generate(seed, count):
    generator = Generator(seed)
    for number in range(count):
        if number % 3 < 2:
            yield f"expression {number}", "{{ " + generator.expression(number % 4 + 1) + " }}", DATA
        else:
            yield f"template {number}", "{% set ns = namespace(v=0) %}" + generator.body(3), DATA
