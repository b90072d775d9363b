"""model_quantise, model_makeAdaptable, model_adapt: other forms of a model."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.models import ModelInfo
from prsm.node.rpc.spec import (
    Count,
    Hex32,
    Method,
    Params,
    PathText,
    RefText,
    Result,
    Scope,
    ShortText,
)
from prsm.protocol.limits import NAME_BYTES_MAX

FormName = Literal["int8", "w8", "w4", "fp16"]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Semver = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(?![\s\S])")]
_Out = Annotated[PathText, msgspec.Meta(description="new file on the node's machine")]


class QuantiseParams(Params, frozen=True):
    """Which model, which form, and what the two are compared on."""

    model: Annotated[
        PathText, msgspec.Meta(description="ONNX file on the node's machine, or a model's name")
    ]
    to: Annotated[
        FormName,
        msgspec.Meta(description="int8 per channel, 8- or 4-bit blocks, fp16 for storage"),
    ] = "int8"
    out: Annotated[_Out | None, msgspec.Meta(description="write the smaller model there")] = None
    report: Annotated[bool, msgspec.Meta(description="run both forms and compare them")] = True
    samples: Annotated[
        PathText | None, msgspec.Meta(description="slices with labels, or a text, to compare on")
    ] = None
    tokenizer: Annotated[
        PathText | None, msgspec.Meta(description="tokenizer.json of a model file that reads text")
    ] = None


class FormFigure(Result, frozen=True):
    """A property of the model as it is, and of the smaller form; decimal numbers as text."""

    name: str
    fp32: ShortText
    found: ShortText


class Quantised(Result, frozen=True):
    """What a smaller form costs and saves; times are of one thread on this machine.

    `rows_touch`: rows of one batch change one another's result, so nobody's requests are joined.
    """

    to: FormName
    size_bytes_before: Count
    size_bytes: Count
    sha256: Hex32
    batch_cpu_us_before: Count
    batch_cpu_us: Count
    row_cpu_us_before: Count
    row_cpu_us: Count
    rows_touch: bool
    figures: tuple[FormFigure, ...]
    file: str | None = None


class MakeAdaptableParams(Params, frozen=True):
    """Which ONNX file, and where the adaptable one goes."""

    path: Annotated[PathText, msgspec.Meta(description="ONNX file on the node's machine")]
    out: _Out


class AdapterSite(Result, frozen=True):
    """A product an adapter may change: NAME.lora_a is (rows, rank), NAME.lora_b (rank, columns)."""

    name: str
    rows: Count
    columns: Count


class Adaptable(Result, frozen=True):
    """The graph that takes an adapter, and where."""

    file: str
    items: tuple[AdapterSite, ...]


class AdaptParams(Params, frozen=True):
    """Which adaptable model, which adapter, and what the two are called."""

    ref: RefText
    adapter: Annotated[PathText, msgspec.Meta(description="safetensors file")]
    name: _Name
    semver: Annotated[_Semver, msgspec.Meta(description="version, such as 1.0.0")] = "1.0.0"
    licence: Annotated[ShortText, msgspec.Meta(description="SPDX name")] = "NOASSERTION"
    register: Annotated[bool, msgspec.Meta(description="name it on the ledger")] = True


class AdaptedModel(Result, frozen=True):
    """The adapted model, and how many products its adapter changes."""

    model: ModelInfo
    sites: Count


METHODS: Final = (
    Method(
        "model_quantise",
        QuantiseParams,
        Quantised,
        # It reads and writes any path the node may, so a token for writes is not enough.
        Scope.ADMIN,
        "Make a model's weights smaller, and measure size, speed and accuracy.",
        words=("model", "quantise"),
        positional=("model",),
        deadline_ms=900_000,
        example=QuantiseParams("minilm@1.0.0", "w8"),
    ),
    Method(
        "model_makeAdaptable",
        MakeAdaptableParams,
        Adaptable,
        Scope.ADMIN,
        "Give a model inputs for low-rank adapters.",
        words=("model", "lora"),
        positional=("path", "out"),
        deadline_ms=600_000,
        example=MakeAdaptableParams("/data/model.onnx", "/data/adaptable.onnx"),
    ),
    Method(
        "model_adapt",
        AdaptParams,
        AdaptedModel,
        Scope.ADMIN,
        "Join an adaptable model and an adapter to a model of its own.",
        words=("model", "adapt"),
        positional=("ref", "adapter", "name"),
        deadline_ms=300_000,
        example=AdaptParams("minilm@1.0.0", "/data/adapter.safetensors", "minilm-law"),
    ),
)
