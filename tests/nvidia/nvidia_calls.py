"""Finds every use of TensorRT and PyCUDA in a source file, by its syntax tree, and compares it with an API.

By convention a module is called `trt` or `cuda`, or an attribute of that name. From there types follow: of what a
constructor or a method gives back, of annotated arguments, of `self._x`. A name of the API on something whose type did
not follow is a finding too, so that no call is passed over.
"""

from __future__ import annotations

import ast
import pathlib
import threading
from dataclasses import dataclass, field

import numpy as np
from nvidia_api import Api

MODULES = {"trt", "cuda"}
# What PyCUDA's functions give back; its C++ wrappers do not say so in words.
GIVEN_BACK = {
    "mem_alloc": "DeviceAllocation", "Device.retain_primary_context": "Context", "Context.get_current": "Context",
}  # fmt: skip
# Names that other things have too: on a value of unknown type they prove nothing.
COMMON = {
    name for kind in (str, bytes, list, dict, set, pathlib.Path, np.ndarray, threading.Event) for name in dir(kind)
} | {"name", "device"}


@dataclass(frozen=True)
class Use:
    """A name of an API that is used. column: where it ends in its line. what: "trt.Builder.create_network"."""

    line: int
    column: int
    what: str


@dataclass(frozen=True)
class Type:
    """module: trt or cuda. kind: "module", "class", "instance" or "callable". name: within the module."""

    module: str
    kind: str
    name: str = ""


@dataclass
class Report:
    """Every use, and what is wrong with them."""

    uses: list[Use] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def examine(source: str, apis: dict[str, Api]) -> Report:
    """Return the uses of "trt" and "cuda" in a source, and where they do not fit the two APIs."""
    tree = ast.parse(source)
    walker = _Walker(apis, tree)
    for _ in range(3):  # attributes are learnt in one method and used in another, which may come first
        walker.report = Report(findings=list(walker.wrong_annotations))
        walker.visit_body(tree.body, {})
    return walker.report


class _Walker:
    def __init__(self, apis: dict[str, Api], tree: ast.Module) -> None:
        self.apis = apis
        self.report = Report()
        self.attributes: dict[str, Type] = {}
        self.returns: dict[str, Type] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                known = self._annotated(node.returns)
                if known:
                    self.returns[node.name] = known
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                known = self._annotated(node.annotation)
                if known:
                    self.attributes[node.target.id] = known
        self.wrong_annotations = self.report.findings
        owners = (members for api in apis.values() for owner, members in api.items() if owner)
        self.members = {name for members in owners for name in members} - COMMON

    def visit_body(self, body: list[ast.stmt], scope: dict[str, Type]) -> None:
        for statement in body:
            self._visit(statement, scope)

    def _visit(self, node: ast.AST, scope: dict[str, Type]) -> None:
        if isinstance(node, ast.FunctionDef):
            inner = dict(scope)
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                inner.pop(argument.arg, None)
                known = self._annotated(argument.annotation)
                if known:
                    inner[argument.arg] = known
            self.visit_body(node.body, inner)
        elif isinstance(node, ast.ClassDef):
            for base in node.bases:
                known = self._type(base, scope)
                if known:
                    self._check_overrides(node, known)
            self.visit_body(node.body, dict(scope))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for one, value in zip(target.elts, node.value.elts, strict=True):
                        self._assign(one, value, scope)
                else:
                    self._assign(target, node.value, scope)
        elif isinstance(node, ast.expr):
            self._type(node, scope)
        else:
            for child in ast.iter_child_nodes(node):
                self._visit(child, scope)

    def _assign(self, target: ast.expr, value: ast.expr, scope: dict[str, Type]) -> None:
        known = self._type(value, scope)
        self._type(target, scope)
        if isinstance(target, ast.Name):
            scope.pop(target.id, None)
            if known:
                scope[target.id] = known
        elif isinstance(target, ast.Attribute) and known:
            self.attributes[target.attr] = known

    def _annotated(self, node: ast.expr | None) -> Type | None:
        """Return the type of an annotation such as trt.Builder."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES:
            if node.attr not in self.apis[node.value.id]:
                self.report.findings.append(f"line {node.lineno}: {node.value.id} has no {node.attr}")
                return None
            return Type(node.value.id, "instance", node.attr)
        return None

    def _type(self, node: ast.expr, scope: dict[str, Type]) -> Type | None:
        """Return the type of an expression, if it is one of an API, and note the uses in it."""
        if isinstance(node, ast.Name):
            return Type(node.id, "module") if node.id in MODULES else scope.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope)
        if isinstance(node, ast.Call):
            return self._call(node, scope)
        for child in ast.iter_child_nodes(node):
            self._visit(child, scope)
        return None

    def _attribute(self, node: ast.Attribute, scope: dict[str, Type]) -> Type | None:
        owner = self._type(node.value, scope)
        if owner is None:
            if node.attr.lstrip("_") in MODULES:
                return Type(node.attr.lstrip("_"), "module")
            if node.attr in self.members and node.attr not in self.attributes:
                self.report.findings.append(f"line {node.lineno}: cannot tell what .{node.attr} belongs to")
            return self.attributes.get(node.attr)
        if owner.kind == "callable":
            self.report.findings.append(f"line {node.lineno}: .{node.attr} of the function {owner.name}")
            return None
        return self._member(node, owner)

    def _member(self, node: ast.Attribute, owner: Type) -> Type | None:
        api, name = self.apis[owner.module], f"{owner.name}.{node.attr}".lstrip(".")
        what = f"{owner.module}.{name}"
        members = api.get(owner.name, {})
        known = node.attr in members or (owner.kind == "module" and node.attr == "__version__")
        if not known:
            self.report.findings.append(f"line {node.lineno}: there is no {what}")
            return None
        self.report.uses.append(Use(node.end_lineno or 0, node.end_col_offset or 0, what))
        if name in api:
            return Type(owner.module, "class", name)
        overloads = members.get(node.attr, [])
        if overloads and overloads[0][0] == "property":
            return Type(owner.module, "instance", overloads[0][1]) if overloads[0][1] in api else None
        return Type(owner.module, "callable", name) if overloads else None

    def _call(self, node: ast.Call, scope: dict[str, Type]) -> Type | None:
        called = self._type(node.func, scope)
        for child in (*node.args, *node.keywords):
            self._visit(child, scope)
        if called is None:
            return self.returns.get(node.func.id) if isinstance(node.func, ast.Name) else None
        owner, _, name = (f"{called.name}.__init__" if called.kind == "class" else called.name).rpartition(".")
        overloads = self.apis[called.module].get(owner, {}).get(name, [])
        # Through its class a method takes self by hand.
        is_unbound = name == "__init__" and called.kind == "callable"
        count = len(node.args) - is_unbound
        keywords = [keyword.arg or "**" for keyword in node.keywords]
        if overloads and not any(fits(overload[0], count, keywords) for overload in overloads):
            shown = " or ".join(f"({', '.join(overload[0])})" for overload in overloads)
            self.report.findings.append(f"line {node.lineno}: {called.module}.{called.name} takes {shown}")
        if called.kind == "class":
            return Type(called.module, "instance", called.name)
        result = GIVEN_BACK.get(called.name) or (overloads[0][1] if overloads else "")
        return Type(called.module, "instance", result) if result and result in self.apis[called.module] else None

    def _check_overrides(self, node: ast.ClassDef, base: Type) -> None:
        """Compare the methods that a subclass overrides: TensorRT calls them by position."""
        members = self.apis[base.module].get(base.name, {})
        for method in node.body:
            if not isinstance(method, ast.FunctionDef) or method.name.startswith("_") or method.name not in members:
                continue
            given = [argument.arg for argument in method.args.args[1:]]
            wanted = [argument.rstrip("?") for argument in members[method.name][0][0]]
            if given != wanted:
                self.report.findings.append(f"line {method.lineno}: {base.name}.{method.name} gets {wanted}")
        overridden = {method.name for method in node.body if isinstance(method, ast.FunctionDef)}
        for name, overloads in members.items():
            if name[0].islower() and overloads and overloads[0][0] != "property" and name not in overridden:
                self.report.findings.append(f"line {node.lineno}: {node.name} does not override {base.name}.{name}")


def fits(arguments: list[str] | None, count: int, keywords: list[str]) -> bool:
    """Tell whether a call with `count` positional arguments and these keywords fits an overload."""
    if arguments is None:
        return True
    names = [argument.rstrip("?") for argument in arguments]
    needed = {argument for argument in arguments if not argument.endswith("?")}
    given = [*names[:count], *keywords]
    return count <= len(names) and set(given) <= set(names) and len(set(given)) == len(given) and needed <= set(given)
