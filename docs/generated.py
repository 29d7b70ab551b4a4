"""What the pages repeat of the code: ``make reference`` writes it into them.

It stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``, so that it can be read in the
repository too; a test compares.
"""

# ruff: noqa: D103 - NAME_table makes the table of that name
import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from importlib import import_module
from inspect import cleandoc, getdoc, getsource
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import load_command_class
from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Model
from django.test import override_settings

import cellcast_django
from cellcast_django import checks, retention, tasks, testing
from cellcast_django.conf import Settings
from cellcast_django.models import (
    HandlerCall,
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
)
from cellcast_django.statuses import UNKNOWN_PRECEDENCE, Status
from cellcast_django.webhooks import WEBHOOKS

PACKAGE = Path(cellcast_django.__file__).parent
APP = apps.get_app_config("cellcast_django")
DOCS = Path(__file__).parent
BLOCK = re.compile(r"(<!-- generated: ([\w. ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Rows = Iterable[Iterable[object]]


def fill_in(text: str) -> str:
    """Return a page with what is generated in it made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{generate(found[2])}\n\n{found[3]}", text)


def generate(name: str) -> str:
    """Return what a block of this name holds."""
    if name in TABLES:
        return TABLES[name]().strip()
    kind, path = name.split()
    return {"docs": docs, "members": members}[kind](path)


def table(heading: str, rows: Rows) -> str:
    """Return a table in Markdown; ``heading`` has a ``|`` between its columns."""
    names = heading.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines
    )


def code(text: object) -> str:
    return f"`{text}`"


def words(docstring: str | None) -> str:
    """Return the first paragraph of a docstring, or all of a help text, on one line."""
    paragraph = cleandoc(docstring or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "`")


# The tables


def settings_table() -> str:
    names = [name for name, each in vars(Settings).items() if isinstance(each, cached_property)]
    with override_settings():
        for name in names:
            if hasattr(settings, f"CELLCAST_{name.upper()}"):
                delattr(settings, f"CELLCAST_{name.upper()}")
        rows = [
            (
                code(f"CELLCAST_{name.upper()}"),
                code(_as_written(getattr(Settings(), name))),
                words(vars(Settings)[name].__doc__.replace("\n\n", "\n")),
            )
            for name in names
        ]
    return table("setting|default|meaning", rows)


def _as_written(value: object) -> str:
    return repr(list(value) if isinstance(value, tuple) else value).replace("'", '"')


def statuses_table() -> str:
    rows = [
        (status.rank, code(status.value), _yes(status.final), status.label, status.description)
        for status in Status
    ]
    other = "stored as Cellcast wrote it, in lower case; of two, the later in the alphabet stands"
    unknown = (UNKNOWN_PRECEDENCE, "any other word", _yes(False), "the word itself", other)
    in_order = sorted([*rows, unknown], key=lambda row: row[0])
    return table(
        "rank|status|final|label|description",
        [(rank, *others) for rank, (_, *others) in enumerate(in_order, start=1)],
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def urls_table() -> str:
    return table(
        "name|path below your prefix|for",
        [
            (
                code(f"cellcast_django:{each.url_name}"),
                code(each.url_name),
                f"the dashboard's {each.label}: {each.takes}",
            )
            for each in WEBHOOKS
        ],
    )


ENTRY = "Entry … of CELLCAST_WEBHOOK_SECRETS"


def checks_table() -> str:
    rows = sorted(
        (code(identity), "with `--deploy`" if check.deploy else "always", message)
        for check in checks.CHECKS
        for identity, message in _messages_of(check.function)
    )
    return table("id|when|says", rows)


def _messages_of(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yield the ids of a check, and of the functions that it calls, with their sentences."""
    source = getsource(function)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in ("Error", "Notice", "Info"):
            [identity] = [each.value for each in node.keywords if each.arg == "id"]
            sentence = _sentence(node.args[0])
            if isinstance(identity, ast.Constant):
                yield str(identity.value), sentence
            else:  # the ids stand in a list of settings
                pairs = re.findall(r'"(CELLCAST_\w+)",.*"(cellcast_django\.\w\d+)"', source)
                for setting, each in pairs:
                    yield each, sentence.replace("…", setting, 1)
        elif node.func.id.startswith("_check"):
            yield from _messages_of(getattr(checks, node.func.id))


def _sentence(message: ast.expr) -> str:
    """Return a text, or an f-string with a … for each value."""
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    filled = {"{where}": ENTRY}
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else filled.get(ast.unparse(part), "…")
        for part in parts
    )


def commands_table() -> str:
    return table("command|does", [(code(name), _help_of(name)) for name in _command_names()])


def _command_names() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("management/commands/cellcast_*.py"))


def _help_of(name: str) -> str:
    text = load_command_class("cellcast_django", name).help
    return re.split(r"(?<=\.) ", text)[0]


def options_table(name: str) -> str:
    parser = CommandParser()
    load_command_class("cellcast_django", name).add_arguments(parser)
    inherited = {option.dest for option in BaseCommand().create_parser("", name)._actions}
    rows = [
        (code(_usage(option)), (option.help or "").replace("%%", "%"))
        for option in parser._actions
        if option.dest not in inherited
    ]
    return table("option|meaning", rows) if rows else "No options."


def _usage(option: Any) -> str:
    if option.choices and not option.option_strings:
        return "|".join(option.choices)
    value = option.metavar or ("" if option.nargs == 0 else option.dest.upper())
    return " ".join([*option.option_strings, value]).strip()


def tasks_table() -> str:
    rows = [(code(name), words(_docstring(getattr(tasks, name)))) for name in tasks.__all__]
    return table("task in `cellcast_django.tasks`|does", rows)


def _docstring(task: Any) -> str | None:
    return getdoc(getattr(task, "func", task))


def testing_table() -> str:
    functions = [name for name in testing.__all__ if callable(getattr(testing, name))]
    rows = [(code(name), words(getdoc(getattr(testing, name)))) for name in functions]
    return table("name in `cellcast_django.testing`|is", rows)


def log_lines_table() -> str:
    lines = {
        (node.func.attr.upper(), re.sub(r"%(\.0f|[sd])", "…", str(node.args[0].value)))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
        and isinstance(node.args[0], ast.Constant)
    }
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    return table("level|line", sorted(lines, key=lambda line: (levels.index(line[0]), line[1])))


def fields_table(model: Any) -> str:
    rows = [
        (code(field.name), field.help_text or ("the primary key" if field.primary_key else ""))
        for field in model._meta.fields
    ]
    return table(f"field of `{model.__name__}`|holds", rows)


PERSONAL: dict[type[Model], list[str]] = {
    Message: [*retention.EMPTY_MESSAGE],
    WebhookEvent: [*retention.EMPTY_EVENT],
    HandlerCall: ["contact", "error"],
    StatusChange: ["reason"],
    OptOut: ["contact", "note"],
    OptOutChange: ["text", "note"],
}
"""The columns that may say who a customer is: those that redaction empties, and the opt-outs'."""


def personal_columns_table() -> str:
    rows = [(code(model.__name__), ", ".join(map(code, PERSONAL[model]))) for model in PERSONAL]
    return table("model|personal information in", rows)


def publication_text() -> str:
    return f"```sql\n{publication_sql()}\n```"


def publication_sql() -> str:
    """Return the statement that publishes what says nothing of a customer."""
    tables = [
        f"    {model._meta.db_table} ({', '.join(_impersonal_columns(model))})"
        for model in PERSONAL
    ]
    return "CREATE PUBLICATION warehouse FOR TABLE\n" + ",\n".join(tables) + ";"


def _impersonal_columns(model: type[Model]) -> list[str]:
    left_out = {*PERSONAL[model], "key"}
    return [field.column for field in model._meta.fields if field.name not in left_out]


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "statuses": statuses_table,
    "urls": urls_table,
    "checks": checks_table,
    "commands": commands_table,
    "tasks": tasks_table,
    "testing": testing_table,
    "log lines": log_lines_table,
    "personal columns": personal_columns_table,
    "publication": publication_text,
}
TABLES |= {
    f"fields of {model.__name__}": lambda model=model: fields_table(model)
    for model in APP.get_models()
}
TABLES |= {f"options of {name}": lambda name=name: options_table(name) for name in _command_names()}


# What the docstrings say


def docs(path: str) -> str:
    """Return how an object is called, and its docstring."""
    owner, name = path.rsplit(".", 1)
    thing = inspect.getattr_static(_imported(owner), name)
    heading, text = name, getdoc(thing) or ""
    if isinstance(thing, property | cached_property):
        pass
    elif inspect.isroutine(thing) or (
        inspect.isclass(thing) and {"__init__", "_fields"} & vars(thing).keys()
    ):
        heading += _signature(thing)
    elif not inspect.isclass(thing):
        text = _docstring_after(_imported(owner), name)
    return f"**`{heading}`**\n\n{text.replace('``', '`')}"


def members(path: str) -> str:
    """Return ``docs`` of what a module or a class defines, and says something of."""
    owner = _imported(path)
    names = [
        name
        for name, each in vars(owner).items()
        if not name.startswith("_")
        and (inspect.isroutine(each) or isinstance(each, property | cached_property))
        and (inspect.isclass(owner) or each.__module__ == path)
        and getdoc(each)
    ]
    return "\n\n".join(docs(f"{path}.{name}") for name in names)


def _imported(path: str) -> Any:
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(_imported(module), name)


def _signature(thing: Any) -> str:
    text = str(inspect.signature(thing)).replace("'", '"')
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)  # names of types without their modules
    text = text.removesuffix(" -> None") if inspect.isclass(thing) else text
    return re.sub(r"^\((self|cls)(, )?", "(", text)


def _docstring_after(module: Any, name: str) -> str:
    """Return the string that follows an assignment in a module."""
    body = ast.parse(getsource(module)).body
    for statement, following in pairwise(body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(following, ast.Expr):
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            if name in (getattr(target, "id", "") for target in targets):
                return cleandoc(ast.literal_eval(following.value))
    raise LookupError(name)


if __name__ == "__main__":
    for page in DOCS.rglob("*.md"):
        old = page.read_text(encoding="utf-8")
        new = fill_in(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(DOCS))
