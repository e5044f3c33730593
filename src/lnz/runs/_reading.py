"""Reading settings from `{"train.steps": 100}` and from JSON. Types are checked; each error is one sentence."""

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import numpy as np
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ..files import short
from ..modules import unknown_name
from ._settings import Choice, Group

G = TypeVar("G", bound=Group)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a recipe.

    - `name`: the name for `--set`, such as "model.prior.num_components".
    - `default`: the default value; for a choice, its name.
    - `allowed`: the allowed values, in words.
    - `meaning`: its meaning, in one line.
    - `choices`: for a choice, the name of each option and one line about it.
    - `belongs`: the choices that have this setting, such as "model.prior=mixture"; empty if it always exists.
    """

    name: str
    default: Any
    allowed: str
    meaning: str
    choices: tuple[tuple[str, str], ...] = ()
    belongs: tuple[str, ...] = ()


def list_settings(group: Group, prefix: str = "") -> list[Setting]:
    """List every setting of a group, of its subgroups and of all choices, in order."""
    found: dict[str, Setting] = {}
    for name, field in type(group).model_fields.items():
        full, value = prefix + name, getattr(group, name)
        if isinstance(value, Choice):
            choices = _choices(field)
            lines = tuple((kind, (cls.__doc__ or "").splitlines()[0]) for kind, cls in choices.items())
            found[full] = Setting(full, value.kind, in_words(field), field.description or "", lines)
            for kind, cls in choices.items():
                for inner in list_settings(_chosen(cls, value, value), f"{full}."):
                    homes = inner.belongs or (f"{full}={kind}",)
                    known = found.get(inner.name, inner)
                    found[inner.name] = dataclasses.replace(known, belongs=tuple(dict.fromkeys(known.belongs + homes)))
        elif isinstance(value, Group):
            found |= {inner.name: inner for inner in list_settings(value, f"{full}.")}
        elif name != "kind" or not isinstance(group, Choice):
            found[full] = Setting(full, value, in_words(field), field.description or "")
    return list(found.values())


def change(settings: G, defaults: G, changes: Mapping[str, Any], owner: str) -> G:
    """Apply `changes`, such as `{"train.steps": 100, "model.prior": "mixture"}`, to `settings`. Values may be text.

    A new choice keeps the settings that it shares with the old one; its other settings come from `defaults`. Settings
    that no longer have an effect also return to `defaults`.

    **Raises:** `ValueError` for an unknown name (the message suggests the nearest one), for a value outside its range,
    and for a change that has no effect with the other settings.
    """
    known = {setting.name: setting for setting in list_settings(defaults)}
    of_kind = {f"{name}.kind": name for name, setting in known.items() if setting.choices}
    named = {of_kind.get(name, name): value for name, value in changes.items()}
    for name in named:
        if name not in known:
            raise ValueError(unknown_name(f"setting of {owner}", name, known))
    changed = _validated(_merged(settings, defaults, named, ""), defaults, owner, named)
    return _without_idle(changed, defaults, named, "")


def read(defaults: G, tree: Any, owner: str) -> G:
    """Read settings from JSON, as written by `model_dump`. Every setting must be present and have its type.

    **Raises:** `ValueError`, naming the first setting that is missing, unknown or wrong.
    """
    settings = _validated(tree, defaults, owner)
    there = {name for name, _ in flatten(tree)}
    for name, _ in flatten(settings.model_dump()):
        if name not in there:
            raise ValueError(f"`{name}` is missing.")
    return settings


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield pairs such as `("train.steps", 100)` from settings in JSON. A choice goes by the name of its field."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix[:-1] if prefix and name == "kind" else prefix + name, value


def in_words(field: FieldInfo) -> str:
    """The allowed values of a field, in words."""
    if choices := _choices(field):
        return f"one of {', '.join(choices)}"
    kind = field.annotation
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    bounds = " and ".join(
        f"{words} {_exact(getattr(bound, name))}"
        for bound in field.metadata
        for name, words in _BOUNDS.items()
        if hasattr(bound, name)
    )
    plain = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
    return plain.get(kind, "a group of settings") + (f", {bounds}" if bounds else "")  # pyright: ignore[reportArgumentType,reportCallIssue]


_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def _exact(number: int | float) -> str:
    exponent = math.log2(number) if number >= 2**31 else math.nan
    return f"2**{exponent:g}" if exponent % 1 == 0 else f"{number:g}"


def _choices(field: FieldInfo) -> dict[str, type[Choice]]:
    """The choices of a field by name; empty if the field is not a union of choices."""
    if get_origin(field.annotation) not in (Union, types.UnionType):
        return {}
    members = [cls for cls in get_args(field.annotation) if isinstance(cls, type) and issubclass(cls, Choice)]
    return {cls.model_fields["kind"].default: cls for cls in members}


def _chosen(cls: type[Choice], now: Choice, default: Choice) -> Choice:
    """Turn `now` into a choice of class `cls`. Shared settings are kept; the others come from `default`."""
    if type(now) is cls:
        return now
    start = default if type(default) is cls else cls()
    common = {
        name: getattr(now, name)
        for name, field in type(now).model_fields.items()
        if name != "kind" and name in cls.model_fields and field.annotation == cls.model_fields[name].annotation
    }
    return start.model_copy(update=common)


def _merged(group: Group, default: Group, changes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values of a group with the changes in place, not yet checked."""
    merged: dict[str, Any] = {}
    for name, field in type(group).model_fields.items():
        full, value, own = prefix + name, getattr(group, name), getattr(default, name, None)
        if isinstance(value, Choice):
            choices = _choices(field)
            kind = changes.get(full, value.kind)
            if not isinstance(kind, str) or kind not in choices:
                raise ValueError(f"`{full}` must be {in_words(field)}; got {_as_written(kind)}.")
            chosen = _chosen(choices[kind], value, own if isinstance(own, Choice) else value)
            _check_belong(full, kind, choices, changes)
            merged[name] = _merged(chosen, chosen, changes, f"{full}.")
        elif isinstance(value, Group):
            merged[name] = _merged(value, cast(Group, own), changes, f"{full}.")
        else:
            merged[name] = _parsed(changes[full], field) if full in changes else value
    return merged


def _check_belong(name: str, kind: str, choices: Mapping[str, type[Choice]], changes: Mapping[str, Any]) -> None:
    """**Raises:** `ValueError` for a change of a setting that only other choices than `kind` have."""
    for change, value in changes.items():
        inner = change.removeprefix(f"{name}.").split(".")[0]
        if change.startswith(f"{name}.") and inner not in choices[kind].model_fields:
            homes = [(name, other) for other, cls in choices.items() if inner in cls.model_fields]
            raise ValueError(_idle(change, value, homes, {name: kind}))


def _without_idle(group: G, default: Group, changes: Mapping[str, Any], prefix: str) -> G:
    """Reset every setting without an effect to its default.

    **Raises:** `ValueError` if such a setting is among the changes.
    """
    update: dict[str, Any] = {}
    for name, homes in group.without_effect().items():
        if prefix + name in changes:
            pairs = [(prefix + one, value) for one, value in homes.items()]
            now = {prefix + one: getattr(group, one) for one in homes}
            raise ValueError(_idle(prefix + name, changes[prefix + name], pairs, now))
        update[name] = getattr(default, name)
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, Group):
            update[name] = _without_idle(value, getattr(default, name, value), changes, f"{prefix}{name}.")
    return group.model_copy(update=update)


def _idle(name: str, value: Any, homes: list[tuple[str, str]], now: Mapping[str, Any]) -> str:
    """The error sentence for a change without an effect. It names the choices that would use the setting."""
    belongs = " or ".join(f"`{owner}={wanted}`" for owner, wanted in homes)
    got = " and ".join(f"`{owner}={there}`" for owner, there in now.items())
    owners = " or ".join(f"`{owner}`" for owner in now)
    return f"`{name}={value}` belongs to {belongs}; with {got} it means nothing. Leave it out, or change {owners}."


def _parsed(value: Any, field: FieldInfo) -> Any:
    """Convert a change to the type of its field. Text such as 1e5 may be a whole number; a path becomes text."""
    if isinstance(value, np.generic):
        value = value.item()
    if field.annotation is str or (isinstance(value, bool) and field.annotation is not bool):
        return str(value)  # so that true and false do not pass as 1 and 0
    if field.annotation is int and isinstance(value, str):
        try:
            number = float(value)
            return value if value.strip().lstrip("+-").isdigit() or number != int(number) else int(number)
        except (ValueError, OverflowError):
            return value
    return value


def _validated(tree: Any, defaults: G, owner: str, changes: Mapping[str, Any] | None = None) -> G:
    """Validate a tree as settings of the type of `defaults`: strictly if `changes` is `None`."""
    try:
        return type(defaults).model_validate(tree, strict=changes is None)
    except ValidationError as error:
        sentence = _sentence(error.errors(include_url=False)[0], defaults, owner, changes or {})
    raise ValueError(sentence)


def _sentence(problem: Mapping[str, Any], defaults: Group, owner: str, changes: Mapping[str, Any]) -> str:
    """Describe a problem found by pydantic in one sentence that names the setting."""
    name, field = _place(type(defaults), problem["loc"])
    context = problem.get("ctx", {})
    if "error" in context:  # from one of our own checks, whose message is complete
        return str(context["error"])
    if problem["type"] == "extra_forbidden":
        return unknown_name(f"setting of {owner}", name, {setting.name for setting in list_settings(defaults)})
    if problem["type"] == "missing":
        return f"`{name}` is missing."
    if field is None:
        return f"The settings of {owner} must be a group of settings; got {short(problem['input'])}."
    got = _as_written(changes[name]) if name in changes else short(context.get("tag", problem["input"]))
    default = {setting.name: setting.default for setting in list_settings(defaults)}.get(name)
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    example = f", such as {default!r}" if is_number else ""
    meaning = f" ({field.description})" if is_number and field.description else ""
    return f"`{name}` must be {in_words(field)}{example}; got {got}.{meaning}"


def _place(cls: type[Group], loc: tuple[int | str, ...]) -> tuple[str, FieldInfo | None]:
    """The name and the field at a pydantic location, which also contains the names of choices."""
    names: list[str] = []
    at: Any = cls
    field, parts = None, list(loc)
    while parts:
        part = str(parts.pop(0))
        names.append(part)
        field = at.model_fields.get(part) if isinstance(at, type) and issubclass(at, Group) else None
        if field is None:
            break
        at = field.annotation
        if choices := _choices(field):
            at = choices.get(str(parts.pop(0))) if parts else None
    return ".".join(names), field


def _as_written(value: Any) -> str:
    """Format a value as in an error about `--set`: numbers bare, words in quotation marks."""
    if isinstance(value, str):
        try:
            float(value)
            return value
        except ValueError:
            pass
    return short(value)
