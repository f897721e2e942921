"""YAML as recipes use it: plain sections of modest size, each key once. Everything else is one message."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mpc_lite.errors import InputError, shown

LONGEST = 1 << 16  # bytes of a recipe; ours have some thousands
_DEEPEST = 20  # sections inside one another; ours have four
_LONGEST_NUMBER = 100  # letters of a whole number
_MOST = 10_000  # keys and values, aliases counted as often as they are used
_TAGS = "tag:yaml.org,2002:"


class RecipeLoader(yaml.SafeLoader):
    """YAML's safe loader, with four differences.

    A key given twice in one section is refused: YAML itself lets the last one win. Numbers are those of YAML 1.2, as
    people write them: ``3e-4`` and ``1.5e3`` are some, ``010`` is ten, and ``1:30`` is none, which in YAML 1.1 is 90.
    Tags such as ``!!int`` are refused: no recipe needs one, and they make odd values of any text. And brackets inside
    brackets end at once where they are too deep: the time they take grows with their square.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own way)
        letter: [(tag, form) for tag, form in forms if tag not in (f"{_TAGS}int", f"{_TAGS}float")]
        for letter, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def fetch_flow_collection_start(self, token):
        if self.flow_level > _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, f"nested more than {_DEEPEST} deep", self.get_mark())
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent, index):
        event = self.peek_event()
        if tag := getattr(event, "tag", None):
            problem = f"the tag {tag.replace(_TAGS, '!!')} is not for recipes, leave it out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)

    def flatten_mapping(self, node):
        super().flatten_mapping(node)
        if (
            len(node.value) > _MOST
        ):  # of merged sections (<<) that merge others, twice each, before anything counts them
            raise yaml.constructor.ConstructorError(None, None, f"more than {_MOST} values", node.start_mark)

    def construct_whole_number(self, node):
        text = self.construct_scalar(node).replace("_", "")
        if len(text) > _LONGEST_NUMBER:  # in hexadecimal Python reads them, and then cannot say what it read
            raise ValueError(f"a whole number of {len(text)} digits, expected up to {_LONGEST_NUMBER}")
        return int(text, 0 if text.lstrip("+-")[1:2].isalpha() else 10)

    def compose_mapping_node(self, anchor):
        node, marks = super().compose_mapping_node(anchor), {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in marks:
                    first = marks[key.tag, key.value].line + 1
                    problem = f"the key '{key.value}' is given twice, first in line {first}"
                    raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
                marks[key.tag, key.value] = key.start_mark
        return node


_FORMS = {
    "int": r"[-+]?([0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)$",
    "float": r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$",
}
for _kind, _form in _FORMS.items():
    RecipeLoader.add_implicit_resolver(_TAGS + _kind, re.compile(_form), list("-+.0123456789"))
RecipeLoader.add_constructor(f"{_TAGS}int", RecipeLoader.construct_whole_number)


def parse(text: str) -> Any:
    """The value of a YAML text; ValueError, in words of one line, for every text that no recipe or value has."""
    if (length := len(text.encode("utf-8", "surrogatepass"))) > LONGEST:
        raise ValueError(f"{length} bytes, expected up to {LONGEST}")
    try:
        value = yaml.load(text, RecipeLoader)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f", line {place.line + 1}" if place else ""
        raise ValueError(shown(error.problem or error.context, 200) + where) from None
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # dates and numbers that cannot be, odd characters
        raise ValueError(shown(error, 200)) from None
    _check_extent(value)
    return value


def read(data: bytes, source: object) -> dict[str, Any]:
    """The sections of a recipe's file. InputError, which calls it `recipe SOURCE`, for everything that is none.

    Of a longer file than LONGEST bytes, `data` need hold no more than the first byte that is too many.
    """
    source = shown(source, 200)
    if len(data) > LONGEST:
        raise InputError(f"recipe {source} is longer than {LONGEST} bytes, expected up to {LONGEST}; shorten it")
    try:
        raw = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"recipe {source} is not text in UTF-8 ({error}); save it in this encoding") from None
    except ValueError as error:
        raise InputError(f"recipe {source} is not YAML that a recipe can be: {error}; correct it") from None
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        raise InputError(f"recipe {source} holds {kind}, expected sections such as 'model:' and 'data:'")
    for key, form in (("profiles", "NAME: {section: …}"), ("choices", "NAME: {ALTERNATIVE: {section: …}}")):
        inner = raw.get(key) or {}
        if not isinstance(inner, dict) or not all(isinstance(each, dict) for each in inner.values()):
            raise InputError(f"recipe {source}: {key} is no table of tables; expected {key}: {{{form}}}")
    sections = [*(raw.get("profiles") or {}).values()]
    for choice, alternatives in (raw.get("choices") or {}).items():
        changes = [change or {} for change in alternatives.values()]
        changes += [scale for change in changes if isinstance(change, dict) for scale in _tables(change)]
        if not changes or not all(isinstance(change, dict) for change in changes):
            raise InputError(f"recipe {source}: choice {shown(choice)} has no alternatives that are tables of sections")
        sections += changes
    if taken := {"choice", "profile"}.intersection(key for each in sections for key in each):
        raise InputError(f"recipe {source}: a profile or an alternative sets {min(taken)}, which its user takes")
    if not isinstance(raw.get("extends", ""), str):
        raise InputError(f"recipe {source} extends {shown(raw['extends'])}, expected the name of one recipe")
    return raw


def _tables(change: dict[str, Any]) -> list[Any]:
    """What an alternative says for each profile, and the table of it."""
    profiles = change.get("profiles", {})
    return [profiles, *(profiles.values() if isinstance(profiles, dict) else ())]


def _check_extent(value: Any) -> None:
    """Aliases make a text of a page stand for more than any memory holds, or for something inside itself."""
    waiting, n = [(value, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        n += 1
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        if n > _MOST:
            raise ValueError(f"more than {_MOST} values")
        if isinstance(item, dict):
            if odd := [key for key in item if not isinstance(key, str)]:
                raise ValueError(f"the key {shown(odd[0])} is a {type(odd[0]).__name__}, expected a text")
            waiting += [(each, depth + 1) for each in item.values()]
        elif isinstance(item, list | tuple | set):
            waiting += [(each, depth + 1) for each in item]
