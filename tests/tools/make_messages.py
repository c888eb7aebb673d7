"""Make docs/messages.md from the contracts: every method of each worker, and every structure that crosses the bus.

Run as `python tests/tools/make_messages.py`; the page is committed, and a test makes it again and compares. With
`--to FILE` it is written there instead. All text of the page comes from the docstrings of `kernel/contracts`: that of
a method or field is the string below its line.
"""

from __future__ import annotations

import argparse
import ast
import enum
import inspect
import itertools
import re
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import msgspec

from kernel.contracts.definition import HELLO, Contract, Message, Method

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "messages.md"
CONTRACTS = ROOT / "kernel" / "contracts"
WORKERS = ("supervisor", "runtime", "network", "storage", "image", "stream", "front")
"""In the order of the page."""
SHARED = {"oci": "Shared values", "stats": "Usage", "records": "Records", "definition": "Built in"}
"""Sections of the modules that several contracts import."""

_INTRODUCTION = """\
# Messages of crisp's bus

What each of crisp's processes can be asked for. Made by `python tests/tools/make_messages.py` from `kernel/contracts`;
not edited by hand. [bus.md](bus.md) says how a message travels and what may change between versions.

- **Deadline**: how long the call may take, unless the caller's own deadline is earlier; a watch has none.
- **Repeated**: whether the caller's side sends the request again if the worker dies in the middle of the call.
- **Progress**: messages before the reply; in a watch, whose reply never comes, the events.
- A structure is a map of its fields. A field without a default is required. A tuple is an array, an enumeration the
  text of one of its values, None is nil, and an id or digest is text.
- A method fails with one of the errors that its worker and itself name, or with DeadlineExceeded, Unavailable or
  Internal (`kernel/errors.py`).
"""


class Module:
    """A module of contracts: its docstring, and the texts below its names."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_text())
        self.docstring = ast.get_docstring(tree) or ""
        self.texts = _texts(tree.body)
        """By the name of a method, or `Class.field`."""
        self.classes: dict[str, dict[str, tuple[str, str]]] = {}
        """Type and default of each field of each class, as the source has them."""
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self.texts |= {f"{node.name}.{name}": text for name, text in _texts(node.body).items()}
                self.classes[node.name] = dict(_fields(node))


def _texts(body: list[ast.stmt]) -> dict[str, str]:
    """The strings that follow an assignment, by the name that is assigned."""
    found = {}
    for node, after in itertools.pairwise(body):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[target.id] = inspect.cleandoc(str(after.value.value))
    return found


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, tuple[str, str]]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id, (ast.unparse(item.annotation), ast.unparse(item.value) if item.value else "")


def make() -> str:
    """Return the page."""
    page = _Page()
    parts = [_INTRODUCTION]
    parts += [page.worker(name) for name in WORKERS]
    parts += [page.shared(name, title) for name, title in SHARED.items()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


class _Page:
    """The sections of the page; made once, as it reads all modules."""

    def __init__(self) -> None:
        self._modules: dict[str, Module] = {}
        for path in sorted(CONTRACTS.rglob("*.py")):
            name = path.relative_to(CONTRACTS).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
            self._modules[name] = Module(path)
        self._anchors = {kind: self._anchor(kind) for kind in self._kinds()}

    def worker(self, worker: str) -> str:
        """Return the section of a worker: its errors, its methods, and the structures that are its own."""
        contract: Contract = import_module(f"kernel.contracts.{worker}").CONTRACT
        lines = [f"## {worker}", "", *_paragraphs(self._modules[worker].docstring)]
        if contract.methods:
            lines += self._index(contract)
        for method in contract.methods.values():
            lines += self._method(worker, method)
        own = [kind for kind in self._anchors if _module(kind).split(".")[0] == worker]
        return "\n".join([*lines, *(line for kind in own for line in self._structure(kind))])

    def shared(self, name: str, title: str) -> str:
        """Return the section of a module that belongs to no worker."""
        lines = [f"## {title}", "", *_paragraphs(self._modules[name].docstring)]
        if name == "definition":
            lines = [f"## {title}", "", *self._method("every worker", HELLO)]
        own = [kind for kind in self._anchors if _module(kind) == name]
        return "\n".join([*lines, *(line for kind in own for line in self._structure(kind))])

    def _kinds(self) -> Iterator[type]:
        """Every structure and enumeration of the contracts, in the order of the source."""
        for name, module in self._modules.items():
            loaded = import_module(f"kernel.contracts.{name}") if name != "__init__" else None
            for each in module.classes:
                kind = getattr(loaded, each)
                if issubclass(kind, (Message, enum.Enum)) and kind is not Message:
                    yield kind

    def _anchor(self, kind: type) -> str:
        return f"type-{_module(kind)}-{kind.__name__}".lower().replace(".", "-")

    def _index(self, contract: Contract) -> list[str]:
        rows = [
            f"| [`{method.name}`](#{contract.worker}-{method.name}) | {_deadline(method)} |"
            f" {'yes' if method.repeat else '**no**'} | {_sentence(self._text(contract.worker, method))} |"
            for method in contract.methods.values()
        ]
        return ["| method | deadline | repeated | |", "|---|---|---|---|", *rows, ""]

    def _method(self, worker: str, method: Method[Message, Message]) -> list[str]:
        anchor = f"{worker}-{method.name}".replace(" ", "-")
        sent = [f"- Request: {self._link(method.request)}"]
        if method.progress is not None:
            members = method.progress.__args__ if isinstance(method.progress, types.UnionType) else (method.progress,)
            sent.append(f"- {'Events' if method.watch else 'Progress'}: {', '.join(map(self._link, members))}")
        if not method.watch:
            sent.append(f"- Reply: {self._link(method.reply)}")
        repeated = "repeated" if method.repeat else "**not repeated**"
        sent.append(f"- Deadline: {_deadline(method)}; {repeated}")
        return [
            f'### <a id="{anchor}"></a>{worker}: `{method.name}`',
            "",
            *_wrapped(self._text(worker, method)),
            *sent,
            "",
        ]

    def _text(self, worker: str, method: Method[Message, Message]) -> str:
        inside = "definition" if method is HELLO else worker
        found = [
            module.texts[method.name.upper()]
            for name, module in self._modules.items()
            if name.split(".")[0] == inside and method.name.upper() in module.texts
        ]
        if len(found) != 1:
            raise SystemExit(f"{worker}: method {method.name} has no docstring below it")
        return found[0]

    def _structure(self, kind: type) -> list[str]:
        title = [f'### <a id="{self._anchors[kind]}"></a>{kind.__name__}', "", *_wrapped(inspect.getdoc(kind) or "")]
        module = self._modules[_module(kind)]
        if issubclass(kind, enum.Enum):
            rows = [
                f"| `{member.value}` | {_cell(module.texts.get(f'{kind.__name__}.{member.name}', ''))} |"
                for member in kind
            ]
            return [*title, "| value | |", "|---|---|", *rows, ""]
        config = kind.__struct_config__
        if config.tag is not None:
            title += [f"Its field `{config.tag_field}` is `{config.tag}`.", ""]
        if not kind.__struct_fields__:
            return title
        described = module.classes[kind.__name__]
        rows = []
        for field in msgspec.structs.fields(kind):
            annotation, default = described[field.name]
            value = "" if field.required else f" = `{default}`"
            text = _cell(module.texts.get(f"{kind.__name__}.{field.name}", ""))
            rows.append(f"| `{field.encode_name}` | {self._type(annotation, kind)}{value} | {text} |")
        return [*title, "| field | type | |", "|---|---|---|", *rows, ""]

    def _type(self, annotation: str, owner: type) -> str:
        """Return a type as the source of `owner` writes it, with links to the structures in it."""
        known = {name: kind for name, kind in vars(import_module(owner.__module__)).items() if isinstance(kind, type)}
        parts = re.split(r"(\b\w+\b)", annotation)
        return "".join(
            self._link(known[part]) if known.get(part) in self._anchors else _escaped(part) for part in parts
        )

    def _link(self, kind: type) -> str:
        return f"[{kind.__name__}](#{self._anchors[kind]})"


def _module(kind: type) -> str:
    return kind.__module__.removeprefix("kernel.contracts.")


def _deadline(method: Method[Message, Message]) -> str:
    return "none: a watch" if method.watch else f"{method.deadline:g} s"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[").replace("]", "\\]").replace("*", "\\*")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(text: str) -> str:
    """The first sentence of a docstring."""
    return _cell(re.split(r"(?<=[.;])\s", text, maxsplit=1)[0].rstrip(".;"))


def _wrapped(text: str) -> list[str]:
    return [*text.splitlines(), ""] if text else []


def _paragraphs(docstring: str) -> list[str]:
    return [*docstring.replace(" Pure.", "").splitlines(), ""]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=PAGE)
    parser.parse_args().to.write_text(make())


if __name__ == "__main__":
    main()
