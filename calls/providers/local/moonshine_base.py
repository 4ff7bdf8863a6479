"""Converts Moonshine base from the package moonshine-cpp into a folder of faster models for `Moonshine`.

`make better-stt` installs what this needs and runs it; the server does not need it.

The package stores each matrix as int8, and its graphs convert all of them to float in each run: 41 million
numbers for each token. Here they stay int8, and what they are multiplied with is quantised to uint8 in the
graph. The package has two copies of the decoder, one for the first pass and one for the others; here there is
one. Of 85 telephone prompts, half take 163 ms of a core or less, instead of 981, with the same word errors,
6.1 %. (Moonshine tiny: 108 ms, 9.6 %.) Single nodes for rotary embeddings and constant shapes would take
139 ms, with nearly twice the code.

The convolutions stay float: the input of the third ranges from -0.2 to 120 and is mostly below 3, for which
eight bits are too coarse.
"""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from calls.providers.local.moonshine import base_folder

ENCODER, DECODER, TOKENIZER = "encoder_model", "decoder_model_merged", "tokenizer.bin"
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
NOT_WHOLE = 1e-3  # the largest rounding error that is permitted for a zero point

# The optimisation levels: none keeps the graph as it is; EXTENDED makes one that any processor can run.
PLAIN = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
EXTENDED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


@dataclass(frozen=True, slots=True)
class Matrix:
    """Numbers kept as int8: each is `data * scale + offset`."""

    data: NDArray[np.int8]
    scale: float = 1.0
    offset: float = 0.0

    @property
    def zero_point(self) -> int:
        """The int8 that stands for 0. Raises ValueError if none does."""
        exact = -self.offset / self.scale
        if abs(exact - round(exact)) > NOT_WHOLE or not -128 <= round(exact) <= 127:
            raise ValueError(f"a matrix has its zero at {exact}: expected a whole number from -128 to 127")
        return round(exact)

    def widened(self) -> NDArray[np.float32]:
        """The numbers as float."""
        return (self.data.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class Rewriter:
    """Replaces matrix products of float by products of integers in a graph.

    All methods raise ValueError for a graph that is not built like those of Moonshine base.
    """

    def __init__(self, graph: GraphProto) -> None:
        self.graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._matrices: dict[str, Matrix] = {}  # by the name of the float value that is computed from each
        self.nodes = [node for node in graph.node if not self._widens(node)]
        if not self._matrices:
            raise ValueError("the graph holds no int8 matrices")

    def rewritten(self, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        """The nodes, with those that use a matrix replaced."""
        for node in nodes:
            name = next((name for name in node.input if name in self._matrices), None)
            if name is None:
                yield node
            elif node.op_type == "Transpose" and self._matrices[name].data.ndim == 2:
                matrix = self._matrices[name]
                self._matrices[node.output[0]] = Matrix(matrix.data.T, matrix.scale, matrix.offset)
            elif node.op_type == "MatMul" and node.input[1] == name:
                yield from self._product(node)
            elif node.op_type == "Gather" and node.input[0] == name:
                yield from self._rows(node)
            elif node.op_type == "Conv":
                self._constant(name, self._matrices[name].widened())
                yield node
            else:
                raise ValueError(f"{node.name}: {node.op_type} uses a matrix, which was not expected")

    def replace(self, nodes: Iterable[NodeProto]) -> None:
        """Make these the graph's nodes."""
        kept = list(nodes)
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def _widens(self, node: NodeProto) -> bool:
        """Whether a node converts int8 to float, with others: Cast, Mul by the scale, Add of the offset."""
        if node.op_type == "Cast":
            tensor = self._constants.get(node.input[0])
            if tensor is None or tensor.data_type != TensorProto.INT8:
                return False
            self._matrices[node.output[0]] = Matrix(numpy_helper.to_array(tensor))
            return True
        name = next((name for name in node.input if name in self._matrices), None)
        if name is None or node.op_type not in ("Mul", "Add"):
            return False
        matrix = self._matrices.pop(name)
        (other,) = (self._constants[each] for each in node.input if each != name)
        number = numpy_helper.to_array(other).item()  # one for the whole matrix
        self._matrices[node.output[0]] = (
            Matrix(matrix.data, scale=number) if node.op_type == "Mul"
            else Matrix(matrix.data, matrix.scale, offset=number)
        )  # fmt: skip
        return True

    def _product(self, node: NodeProto) -> Iterator[NodeProto]:
        numbers, name = node.input
        short, scale, zero_point = (f"{node.output[0]}.{part}" for part in ("uint8", "scale", "zero_point"))
        data, data_scale, data_zero_point = self._parts(name)
        yield helper.make_node("DynamicQuantizeLinear", [numbers], [short, scale, zero_point])
        yield helper.make_node(
            "MatMulIntegerToFloat",
            [short, data, scale, data_scale, zero_point, data_zero_point],
            node.output,
            domain=CONTRIB,
        )

    def _rows(self, node: NodeProto) -> Iterator[NodeProto]:
        data, scale, zero_point = self._parts(node.input[0])
        rows = f"{node.output[0]}.int8"
        yield helper.make_node("Gather", [data, node.input[1]], [rows], axis=0)
        yield helper.make_node("DequantizeLinear", [rows, scale, zero_point], node.output)

    def _parts(self, name: str) -> tuple[str, str, str]:
        """The names of a matrix's constants: its int8 numbers, scale and zero point."""
        matrix = self._matrices[name]
        return (
            self._constant(f"{name}.data", matrix.data),
            self._constant(f"{name}.scale", np.array(matrix.scale, np.float32)),
            self._constant(f"{name}.zero_point", np.array(matrix.zero_point, np.int8)),
        )

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant to the graph, unless it has it; return its name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
            self.graph.initializer.append(self._constants[name])
        return name


def rewrite_encoder(graph: GraphProto) -> None:
    """Use integer products in the encoder."""
    rewriter = Rewriter(graph)
    rewriter.replace(rewriter.rewritten(rewriter.nodes))


def rewrite_decoder(graph: GraphProto) -> None:
    """Use integer products in the decoder, and one subgraph for all passes instead of two.

    The subgraph for later passes also does for the first one, with an empty state. Only the keys and values
    of the sound, for each layer, are computed in the first pass and are an input of the others; both output
    them.
    """
    rewriter = Rewriter(graph)
    if [node.op_type for node in rewriter.nodes] != ["If"]:
        raise ValueError("the decoder was expected to be one If, for a first and for later passes")
    (choice,) = rewriter.nodes
    later, first = (
        next(each.g for each in choice.attribute if each.name == name)
        for name in ("then_branch", "else_branch")
    )
    outputs = [output.name for output in graph.output]
    of_sound = [name for name in outputs if ".encoder." in name]
    given = {name.replace("present", "past_key_values"): name for name in of_sound}

    made = list(rewriter.rewritten(needed(first.node, of_sound)))
    # The body has the same names, which may not be given twice.
    rename(made, {name: f"{name}.made" for node in made for name in node.output})
    taken = [helper.make_node("Identity", [old], [f"{name}.taken"]) for old, name in given.items()]
    choice = helper.make_node(
        "If",
        choice.input,
        of_sound,
        then_branch=_branch("taken", taken, of_sound),
        else_branch=_branch("made", made, of_sound),
    )
    body = list(rewriter.rewritten(needed(later.node, [name for name in outputs if name not in of_sound])))
    rename(body, given)
    rewriter.replace([choice, *body])


def _branch(suffix: str, nodes: list[NodeProto], names: list[str]) -> GraphProto:
    outputs = [helper.make_tensor_value_info(f"{each}.{suffix}", TensorProto.FLOAT, None) for each in names]
    return helper.make_graph(nodes, suffix, [], outputs)


def needed(nodes: Iterable[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on, in their order."""
    wanted, found = set(outputs), []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(node.input)
    return found[::-1]


def rename(nodes: Iterable[NodeProto], names: dict[str, str]) -> None:
    """Rename inputs and outputs of the nodes."""
    for node in nodes:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]


def save_optimised(source: Path, target: Path, level: onnxruntime.GraphOptimizationLevel) -> None:
    """Save a model (.ort or .onnx) as .onnx, optimised by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    # It warns that a saved model may not suit other machines; at EXTENDED it does.
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ONNX")
    options.add_session_config_entry("session.disable_prepacking", "1")
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def convert(source: Path, target: Path) -> None:
    """Convert a folder of the package's models into a folder of fast ones. `target` must not exist yet."""
    target.mkdir()
    for name, rewrite in ((ENCODER, rewrite_encoder), (DECODER, rewrite_decoder)):
        path = target / f"{name}.onnx"
        save_optimised(source / f"{name}.ort", path, PLAIN)
        model = onnx.load(path)
        rewrite(model.graph)
        onnx.save(model, path)
        save_optimised(path, path, EXTENDED)
    shutil.copyfile(source / TOKENIZER, target / TOKENIZER)


def package_folder() -> Path:
    """The weights inside the installed package. Raises FileNotFoundError when it isn't there."""
    spec = importlib.util.find_spec("moonshine_cpp")
    if spec and spec.origin:
        return Path(spec.origin).parent / "models" / "base-en"
    raise FileNotFoundError(
        "the package moonshine-cpp with Moonshine base is not installed: `make better-stt`"
    )


def install(target: Path) -> None:
    """Replace a folder by the converted models. If that fails, the folder stays as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        convert(package_folder(), Path(scratch) / "new")
        if target.exists():
            target.rename(Path(scratch) / "old")
        (Path(scratch) / "new").rename(target)


if __name__ == "__main__":
    install(base_folder())
    sys.stdout.write(f"Moonshine base is in {base_folder()}: profiles can choose it\n")
