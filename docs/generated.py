"""What the pages repeat of the code: ``make reference`` writes it into them.

It stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``, so that it can be read in the
repository too; a test compares.
"""

# ruff: noqa: D103 - NAME_block makes the block of that name
import ast
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from functools import cached_property
from importlib import import_module
from inspect import cleandoc, getdoc, getsource
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

from django.apps import apps
from django.conf import settings
from django.core.management import load_command_class
from django.core.management.base import BaseCommand, CommandParser
from django.db.models import Model
from django.test import override_settings

import cellcast_django
from cellcast_django import checks, health, simulator, tasks, testing
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
from cellcast_django.upkeep import retention
from cellcast_django.webhooks import WEBHOOKS

PACKAGE = Path(cellcast_django.__file__).parent
APP = apps.get_app_config("cellcast_django")
DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
BLOCK = re.compile(r"(<!-- generated: ([\w. ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_in(text: str) -> str:
    """Return a page with what is generated in it made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{generate(found[2])}\n\n{found[3]}", text)


def generate(name: str) -> str:
    """Return what a block of this name holds."""
    if name in BLOCKS:
        return BLOCKS[name]()
    owner, *names = name.split()
    return docs(owner, names)


def bullets(rows: Iterable[tuple[str, object]]) -> str:
    """Return a list of names, each with what it is."""
    return "\n".join(f"- {name}: {text}" for name, text in rows)


def code(text: object) -> str:
    return f"`{text}`"


def words(docstring: str | None) -> str:
    """Return the first paragraph of a docstring, or all of a help text, on one line."""
    paragraph = cleandoc(docstring or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "`")


# What settings, commands and other lists say


def settings_block() -> str:
    names = [name for name, each in vars(Settings).items() if isinstance(each, cached_property)]
    with override_settings():
        for name in names:
            if hasattr(settings, f"CELLCAST_{name.upper()}"):
                delattr(settings, f"CELLCAST_{name.upper()}")
        return bullets(
            (
                code(f"CELLCAST_{name.upper()} = {_as_written(getattr(Settings(), name))}"),
                words(vars(Settings)[name].__doc__.replace("\n\n", "\n")),
            )
            for name in names
        )


def _as_written(value: object) -> str:
    return repr(list(value) if isinstance(value, tuple) else value).replace("'", '"')


def statuses_block() -> str:
    ranks: dict[int, tuple[str, object]] = {
        UNKNOWN_PRECEDENCE: (
            "any other word",
            "Stored as Cellcast wrote it, in lower case. Of two, the later in the alphabet stands.",
        )
    }
    for status in Status:
        ranks[status.rank] = code(status.value), _first_sentence(str(status.description))
    rows = [
        f"{place}. {name}: {text}"
        for place, (_, (name, text)) in enumerate(sorted(ranks.items()), 1)
    ]
    first = min((status for status in Status if status.final), key=lambda status: status.rank)
    return "\n".join(rows) + f"\n\nThose from {code(first.value)} on are final."


def urls_block() -> str:
    return bullets(
        (code(each.url_name), f"the {each.label}, for {each.takes}") for each in WEBHOOKS
    )


ENTRY = "A secret"


def checks_block() -> str:
    return "\n\n".join(
        f"{when}:\n\n{bullets(sorted(_messages(is_deploy=is_deploy)))}"
        for when, is_deploy in (("Always", False), ("With `--deploy`", True))
    )


def _messages(*, is_deploy: bool) -> Iterator[tuple[str, str]]:
    for check in checks.CHECKS:
        if check.deploy is is_deploy:
            for identity, message in _messages_of(check.function):
                yield code(identity), _first_sentence(message)


def _messages_of(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yield the ids of a check, and of the functions that it calls, with their sentences."""
    source = getsource(function)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in ("Error", "Notice"):
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


def _command_names() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("management/commands/cellcast_*.py"))


def command_block(name: str) -> str:
    """Return the first sentence of a command's help, and its options."""
    command = load_command_class("cellcast_django", name)
    parser = CommandParser()
    command.add_arguments(parser)
    inherited = {option.dest for option in BaseCommand().create_parser("", name)._actions}
    options = bullets(
        (
            code(_usage(option)),
            re.sub(r"--[\w-]+", r"`\g<0>`", option.help or "").replace("%%", "%"),
        )
        for option in parser._actions
        if option.dest not in inherited
    )
    return "\n\n".join(filter(None, [_first_sentence(command.help), options]))


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) |: …\.?$", text)[0]


def _usage(option: Any) -> str:
    if option.choices and not option.option_strings:
        return "|".join(option.choices)
    value = option.metavar or ("" if option.nargs == 0 else option.dest.upper())
    return " ".join([*option.option_strings, value]).strip()


def tasks_block() -> str:
    functions = {name: getattr(tasks, name) for name in tasks.__all__}
    functions = {name: getattr(task, "func", task) for name, task in functions.items()}
    return bullets(
        (code(name + _signature(each)), words(getdoc(each))) for name, each in functions.items()
    )


def testing_block() -> str:
    functions = [name for name in testing.__all__ if callable(getattr(testing, name))]
    return bullets((code(name), words(getdoc(getattr(testing, name)))) for name in functions)


def fates_block() -> str:
    return bullets(
        (code(number.replace("+61", "0")), fate.description)
        for number, fate in simulator.FATES.items()
    )


def simulated_calls_block() -> str:
    calls = re.findall(r'f"(GET|POST) \{(\w+)\}(/)?', getsource(simulator.Simulator))
    paths = [(method, getattr(simulator, name), tail and "/ID") for method, name, tail in calls]
    return ", ".join(code(f"{method} {path}{tail}") for method, path, tail in paths) + "."


SAYS_LITTLE = {"its keys", "the filters", "the report"}
"""What is left out, since the name alone says as much."""


def how_sure_block() -> str:
    """Return what the simulator's docstrings say under each of three words, and whose they are."""
    said = [
        (word, f"{code(name.lstrip('_'))}: {sentence}.")
        for name, docstring in _docstrings(ast.parse(getsource(simulator)))
        for word, sentence in re.findall(
            r"(Documented|Seen|Supposed): ([^.]+)", " ".join(docstring.replace("``", "`").split())
        )
        if sentence not in SAYS_LITTLE
    ]
    return "\n\n".join(
        f"**{each}.** {' '.join(sentence for word, sentence in said if word == each)}"
        for each in ("Documented", "Seen", "Supposed")
    )


def _docstrings(owner: ast.Module | ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the name and the docstring of what a module or a class defines."""
    for statement, following in pairwise([*owner.body, ast.Pass()]):
        match statement, following:
            case ast.ClassDef() | ast.FunctionDef(), _:
                yield statement.name, ast.get_docstring(statement) or ""
                if isinstance(statement, ast.ClassDef):
                    yield from _docstrings(statement)
            case ast.Assign(targets=[ast.Name(name)]), ast.Expr(ast.Constant(str(text))):
                yield name, text


LEVELS = {"info": "INFO", "warning": "WARNING", "log": "WARNING or ERROR", "error": "ERROR"}
"""By the method of the logger."""


def log_lines_block() -> str:
    lines = sorted(_log_lines())
    return "\n\n".join(
        f"{level}:\n\n" + "\n".join(f"- {line}" for of, line in lines if of == method)
        for method, level in LEVELS.items()
    )


def _log_lines() -> set[tuple[str, str]]:
    """Return what is logged: the method of the logger, and the line with a … for each value."""
    return {
        (node.func.attr, _first_sentence(re.sub(r"%(\.0f|[sd])", "…", str(argument.value))))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "logger"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def fields_block(model: Any) -> str:
    return bullets(
        (code(field.name), field.help_text) for field in model._meta.fields if not field.primary_key
    )


PERSONAL: dict[type[Model], list[str]] = {
    Message: [*retention.EMPTY_MESSAGE],
    WebhookEvent: [*retention.EMPTY_EVENT],
    HandlerCall: ["contact", "error"],
    StatusChange: ["reason"],
    OptOut: ["contact", "note"],
    OptOutChange: ["text", "note"],
}
"""The columns that may say who a customer is: those that redaction empties, and the opt-outs'."""


def personal_columns_block() -> str:
    return bullets(
        (code(model.__name__), ", ".join(map(code, PERSONAL[model]))) for model in PERSONAL
    )


def publication_block() -> str:
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


def health_block() -> str:
    types = get_type_hints(health.Health)
    return "\n".join(
        f"- {code(name)}{_attributes_of(types[name])}" for name in _attributes(health.Health)
    )


def _attributes_of(kind: Any) -> str:
    """Return the attributes of a record, or of the records in a list or a dict or beside None."""
    records = [each for each in (kind, *get_args(kind)) if hasattr(each, "__match_args__")]
    if not records:
        return ""
    [record] = records
    types = get_type_hints(record)
    names = (f"{code(name)}{_attributes_of(types.get(name))}" for name in _attributes(record))
    return f" ({', '.join(names)})"


def heart_block() -> str:
    """Return which files are read to change the way of a webhook, and what else there is."""
    files = [*_path_of_a_webhook(), *_files_of_models()]
    text = (
        f"To change how a webhook is stored or told, {len(files)} files are enough, "
        f"{_lines(PACKAGE / name for name in files)} lines: {', '.join(map(code, files))}. The "
        f"whole heart has {_lines(_heart())} lines. All else is optional, and a contract of "
        "import-linter keeps the heart from importing it."
    )
    return textwrap.fill(text, width=100, break_long_words=False, break_on_hyphens=False)


def _path_of_a_webhook() -> list[str]:
    """Return the files of the steps that the page of the architecture tells."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\d+\. `([\w/]+\.py)`", page, re.MULTILINE)


def _files_of_models() -> list[str]:
    files = [Path(inspect.getfile(model)).relative_to(PACKAGE).as_posix() for model in PERSONAL]
    return list(dict.fromkeys(files))


def _heart() -> Iterator[Path]:
    """Yield the files of the contract that keeps what is optional out of the heart."""
    pyproject = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    [contract] = [each for each in contracts if "heart" in each["name"]]
    for module in contract["source_modules"]:
        path = PACKAGE.parent / module.replace(".", "/")
        yield from path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]


def _lines(files: Iterable[Path]) -> str:
    """Return how many lines the files have, to the next hundred: a mend need not touch a page."""
    count = sum(path.read_text(encoding="utf-8").count("\n") for path in files)
    return f"{round(count, -2):,}"


BLOCKS: dict[str, Callable[[], str]] = {
    "heart": heart_block,
    "settings": settings_block,
    "statuses": statuses_block,
    "urls": urls_block,
    "checks": checks_block,
    "tasks": tasks_block,
    "testing": testing_block,
    "fates": fates_block,
    "simulated calls": simulated_calls_block,
    "how sure": how_sure_block,
    "log lines": log_lines_block,
    "personal columns": personal_columns_block,
    "publication": publication_block,
    "health": health_block,
}
BLOCKS |= {
    f"fields of {model.__name__}": lambda model=model: fields_block(model) for model in PERSONAL
}
BLOCKS |= {name: lambda name=name: command_block(name) for name in _command_names()}


# What the docstrings say


def docs(owner: str, names: Iterable[str]) -> str:
    """Return how these names of a module or a class are used, or all that a class documents."""
    names = names or [
        name
        for name, each in vars(_imported(owner)).items()
        if not name.startswith("_")
        and (inspect.isroutine(each) or isinstance(each, property | cached_property))
        and getdoc(each)
    ]
    if not names:
        raise LookupError(owner)
    return "\n\n".join(_docs(owner, name) for name in names)


def _docs(owner: str, name: str) -> str:
    thing = inspect.getattr_static(_imported(owner), name)
    text = getdoc(thing) or ""
    heading = code(name)
    if isinstance(thing, property | cached_property):
        pass
    elif _is_record(thing):
        heading += f" ({', '.join(map(code, _attributes(thing)))})"
    elif inspect.isroutine(thing) or (inspect.isclass(thing) and "__init__" in vars(thing)):
        heading = code(name + _signature(thing))
    elif not inspect.isclass(thing):
        text = _docstring_after(_imported(owner), name)
    return f"**{heading}**: {text.replace('``', '`')}"


def _is_record(thing: Any) -> bool:
    return inspect.isclass(thing) and (is_dataclass(thing) or hasattr(thing, "_fields"))


def _attributes(record: Any) -> list[str]:
    """Return the names of a record's fields and properties."""
    properties = [name for name, each in vars(record).items() if isinstance(each, property)]
    return [*inspect.signature(record).parameters, *properties]


def _imported(path: str) -> Any:
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(_imported(module), name)


def _signature(thing: Any) -> str:
    """Return names and defaults, and what is returned."""
    signature = inspect.signature(thing)
    parameters = [
        each.replace(annotation=each.empty)
        for name, each in signature.parameters.items()
        if name not in ("self", "cls")
    ]
    text = str(signature.replace(parameters=parameters)).replace("'", '"')
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)  # names of types without their modules
    text = re.sub(r'-> "(\w+)"$', r"-> \1", text)  # a name that is defined further down
    return re.sub(r" -> (?:None|Self|~\w)$|\[~\w\]", "", text)


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
    for page in [README, *DOCS.rglob("*.md")]:
        old = page.read_text(encoding="utf-8")
        new = fill_in(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(DOCS.parent))
