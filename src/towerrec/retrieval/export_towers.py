"""Towers as files: programs of torch.export (`.pt2`) and ONNX graphs, with any number of rows, and how they are asked.

Both are written from one trace, so they compute the same, and hold weights, not tables.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import device as Device
from torch.export import Dim, ExportedProgram
from torch.export.passes import move_to_device_pass

from towerrec.nn.programs import ROWS, ItemProgram, ProgramInput, UserProgram
from towerrec.retrieval.export_archive import check_program, weights_only

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
VECTOR = "vector"
"""Name of the output."""

Asked = Callable[[Mapping[str, Tensor]], Tensor]
"""A program that can be called: inputs by name to vectors float32 [R, V]."""

# Beyond this a graph does not fit into one file of the format, and its weights lie beside it.
_LARGE_BYTES = 1_800_000_000
# What a graph says of the program it was traced from: files, lines and classes of this machine.
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def require_onnx() -> None:
    """Raises a ValueError that names the extra, where a package that writes ONNX is missing."""
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f'export=FOLDER needs {", ".join(missing)}: pip install -e ".[export]"')


def traced(program: UserProgram | ItemProgram) -> ExportedProgram:
    """The graph of a program for any number of rows and any length of histories and profiles, each at least 1."""
    example = example_of(program.inputs)
    names = {name for given in program.inputs for name in given.free.values()}
    sizes = {name: Dim(name, min=1) for name in names}
    shapes = {given.name: {axis: sizes[name] for axis, name in given.free.items()} for given in program.inputs}
    with torch.no_grad(), _quiet():
        graph = torch.export.export(program.eval().cpu(), (example,), dynamic_shapes=(shapes,))
    for module in graph.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _TRACES:
                    node.meta.pop(key, None)
    return graph


def write_pt2(graph: ExportedProgram, path: Path) -> None:
    """As a program that `torch.export.load` reads, with nothing of ours installed."""
    with _quiet():
        torch.export.save(graph, path)


def write_onnx(graph: ExportedProgram, inputs: tuple[ProgramInput, ...], path: Path) -> int:
    """As an ONNX graph; returns the version of its operators. Weights beyond 1.8 GB lie in a file beside it."""
    with torch.no_grad(), _quiet():
        written = torch.onnx.export(
            graph,
            (example_of(inputs),),
            input_names=[given.name for given in inputs],
            output_names=[VECTOR],
            verbose=False,
            dynamo=True,
        )
        assert written is not None
        _name_sizes(written.model, inputs)
        for node in written.model.graph:
            node.metadata_props.clear()
        size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict.values())
        written.save(path, external_data=size > _LARGE_BYTES)
    return int(written.model.opset_imports[""])


def read_pt2(path: Path, *, device: Device | str = "cpu") -> Asked:
    """A program of torch.export; nothing but torch is needed.

    Raises:
        ValueError: If the file is none, or of a later PyTorch.
    """
    try:
        check_program(path)
        with _quiet(), weights_only():
            graph = torch.export.load(path)
            if torch.device(device).type != "cpu":
                graph = move_to_device_pass(graph, device)
            # Guards are Python code, and what they would find the operators find too; torch 2.8 has none.
            guards = {"check_guards": False} if "check_guards" in signature(graph.module).parameters else {}
            called: Callable[[dict[str, Tensor]], Tensor] = graph.module(**guards)
    except Exception as error:  # a damaged file breaks the reader in many ways, and all of them mean the same
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a torch.export program ({reason}): write the folder again"
        ) from error

    def asked(columns: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return called(dict(columns))

    return asked


def read_onnx(path: Path) -> Asked:
    """An ONNX graph in onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def asked(columns: Mapping[str, Tensor]) -> Tensor:
        return torch.from_numpy(session.run(None, {name: column.numpy() for name, column in columns.items()})[0])

    return asked


def example_of(inputs: tuple[ProgramInput, ...]) -> dict[str, Tensor]:
    """Inputs to trace by: sizes of 2 and more, since a tracer takes 0 and 1 for constants."""
    return {given.name: given.filled(3, dict.fromkeys(given.free.values(), 4)) for given in inputs}


def _name_sizes(model: Any, inputs: tuple[ProgramInput, ...]) -> None:
    """Write `rows` where the tracer wrote `s24`: names of sizes are what a reader of the graph sees."""
    words: dict[str, str] = {}
    for value, given in zip(model.graph.inputs, inputs, strict=True):
        for axis, name in given.free.items():
            words[str(value.shape[axis].value)] = name
    values = [*model.graph.inputs, *model.graph.outputs, *(out for node in model.graph for out in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            word = words.get(str(getattr(size, "value", size)))
            if word is not None:
                value.shape[axis] = word
    assert str(model.graph.outputs[0].shape[0].value) == ROWS


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what tracing and translating print to itself; what goes wrong is an exception anyway."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        sys.stdout.flush()
