from __future__ import annotations

import argparse
import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import resource
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from invertkit.models.loading.inert.faults import DamagedError, ForeignNameError
from invertkit.models.loading.inert.names import known_name
from invertkit.models.loading.inert.read import read_inert
from tests.models.loading.checkpoints import Payload, checkpoint_of_training

CONTAINERS = pytest.mark.parametrize("container", ["zip", "older"])
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def save(data: Any, path: Path, *, container: str, module: Any = pickle) -> Path:
    zipped = container == "zip"
    torch.save(data, path, pickle_module=module, _use_new_zipfile_serialization=zipped)
    return path


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor that a network may hold: of any type, a part of a larger one, transposed."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    whole = (torch.rand([n + 2 for n in shape], generator=generator) * 100).to(dtype)
    part = whole[tuple(slice(draw(st.integers(0, 2)), n + draw(st.integers(0, 2))) for n in shape)]
    return part.permute(draw(st.permutations(range(part.ndim))))


@settings(max_examples=40, deadline=None)
@given(st.lists(tensors(), min_size=1, max_size=4), st.sampled_from(["zip", "older"]))
def test_every_tensor_comes_back_as_torch_itself_reads_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[Tensor], container: str
) -> None:
    path = tmp_path_factory.mktemp("w") / "w.pt"
    data = {"a": {str(i): value for i, value in enumerate(values)}, "again": values}
    save(data, path, container=container)
    ours, torchs = read_inert(path), torch.load(path, weights_only=True)
    for mine, its in zip(
        [*ours["a"].values(), *ours["again"]], [*torchs["a"].values(), *values], strict=True
    ):
        assert mine.dtype == its.dtype
        assert mine.shape == its.shape
        assert torch.equal(mine, its)


@CONTAINERS
@pytest.mark.parametrize("module", [pickle, dill], ids=["pickle", "dill"])
def test_tensors_beside_pickled_objects_are_read_and_the_objects_are_not_made(
    tmp_path: Path, container: str, module: Any
) -> None:
    model = OrderedDict(a=torch.arange(6.0).reshape(2, 3).T, b=torch.tensor(3))
    data = checkpoint_of_training(model) | {"args": argparse.Namespace(eps=0.05)}
    if module is dill:

        class Constraint:
            eps = 0.05

            def project(self, x: float) -> float:
                return min(x, self.eps)

        data |= {"step": Constraint(), "kind": Constraint, "schedule_of": lambda epoch: sys.argv}
    path = save(data, tmp_path / "w.pt", container=container, module=module)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_inert(path)
    assert found.keys() == data.keys()
    assert torch.equal(found["model"]["a"], model["a"])
    assert torch.equal(found["model"]["b"], model["b"])
    assert found["epoch"] == 89
    assert all(found.get(key) is None for key in ("args", "step", "kind", "schedule_of", "amp"))


@CONTAINERS
def test_a_whole_pickled_network_is_the_dictionary_of_its_tensors(
    tmp_path: Path, container: str
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))
    net[0].register_buffer("passing", torch.ones(1), persistent=False)
    found = read_inert(save(nn.DataParallel(net), tmp_path / "w.pt", container=container))
    own = nn.DataParallel(net).state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], value) for key, value in own.items())


# ---------------------------------------------------------------------- hostile files


def opcodes(*lines: bytes) -> bytes:
    return b"\x80\x02" + b"".join(lines) + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def call(module: str, name: str, argument: str) -> bytes:
    """GLOBAL, its argument, REDUCE."""
    return f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R"


def hostile_pickles(ran: Path) -> dict[str, bytes]:
    """Ways to make a folder by being unpickled; each works on an ordinary unpickler."""
    command = f"__import__('os').mkdir({str(ran)!r})"
    target = text(str(ran))
    imported = call("dill._dill", "_import_module", "os")
    pickles = {
        "reduce": opcodes(call("posix", "mkdir", str(ran))),
        "eval": opcodes(call("builtins", "eval", command)),
        "exec of Python 2": opcodes(call("__builtin__", "eval", command)),
        "inst": opcodes(b"(", target, b"iposix\nmkdir\n"),
        "obj": opcodes(b"(cposix\nmkdir\n", target, b"o"),
        "newobj": opcodes(
            b"csubprocess\nPopen\n(", text("mkdir"), target, b"l\x85\x81"
        ),
        "stack global": b"\x80\x04" + text("posix") + text("mkdir") + b"\x93" + target + b"\x85R.",
        "dotted": b"\x80\x04" + text("__main__") + text("os.mkdir") + b"\x93" + target + b"\x85R.",
        "getattr": opcodes(
            b"cbuiltins\ngetattr\n(", call("builtins", "__import__", "os"), text("mkdir"), b"tR",
            target, b"\x85R",
        ),
        "dill": opcodes(b"cdill._dill\n_get_attr\n", imported, text("mkdir"), b"\x86R",
                        target, b"\x85R"),
        "gadget of numpy": opcodes(
            b"cnumpy.testing._private.utils\nrunstring\n", text(command), b"}\x86R"
        ),
        "gadget of torch": opcodes(call("torch.hub", "load", str(ran))),
        "pip": opcodes(call("pip", "main", str(ran))),
        "partial": opcodes(
            b"cfunctools\npartial\n(cposix\nmkdir\n", target, b"tR)R"
        ),
        "map": opcodes(
            b"cbuiltins\nlist\ncbuiltins\nmap\n(cposix\nmkdir\n", target, b"\x85tR\x85R"
        ),
    }  # fmt: skip
    return pickles


KINDS = tuple(hostile_pickles(Path("x")))


def test_the_hostile_pickles_do_run_where_nobody_stops_them(tmp_path: Path) -> None:
    works = []
    for kind, data in hostile_pickles(tmp_path / "ran").items():
        pickletools.dis(data, io.StringIO())  # well formed
        if kind in ("dotted", "gadget of torch", "gadget of numpy", "pip", "newobj"):
            continue  # these need another program around them
        pickle.loads(data)
        assert (tmp_path / "ran").exists(), kind
        (tmp_path / "ran").rmdir()
        works.append(kind)
    assert len(works) == 10


def in_zip(path: Path, page: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", page)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


def in_older(path: Path, page: bytes) -> Path:
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, [])]
    path.write_bytes(b"".join([*parts[:3], page, parts[3]]))
    return path


_HEARD: list[str] | None = None


def _hear(event: str, _: object) -> None:
    if _HEARD is not None and event.startswith(("os.mkdir", "subprocess", "exec", "import")):
        _HEARD.append(event)


@pytest.fixture(scope="module")
def _watched(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Python tells what it executes and imports; there is no taking the listener off again."""
    for container in ("zip", "older"):  # what reading itself imports, it imports here
        path = tmp_path_factory.mktemp("w") / "w.pt"
        read_inert(save({"a": torch.ones(1)}, path, container=container))
    read_inert(in_zip(path, pickle.dumps({}, 2)))  # names of entries in another encoding
    sys.addaudithook(_hear)


@pytest.mark.usefixtures("_watched")
@pytest.mark.parametrize("place", [in_zip, in_older, lambda path, page: path.write_bytes(page)])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_hostile_file_runs(
    tmp_path: Path, kind: str, place: Callable[[Path, bytes], Any]
) -> None:
    global _HEARD
    place(tmp_path / "w.pt", hostile_pickles(tmp_path / "ran")[kind])
    _HEARD = heard = []
    try:
        read_inert(tmp_path / "w.pt")
    except (ForeignNameError, DamagedError):
        _HEARD = None
    assert _HEARD is None, "it was read"
    assert heard == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("_watched")
def test_the_listener_would_hear(tmp_path: Path) -> None:
    global _HEARD
    _HEARD = heard = []
    pickle.loads(hostile_pickles(tmp_path / "ran")["eval"])
    _HEARD = None
    assert {"exec", "os.mkdir"} <= set(heard)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_is_called_hostile(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ForeignNameError):
        read_inert(in_zip(tmp_path / "w.pt", hostile_pickles(tmp_path / "ran")[kind]))


@CONTAINERS
def test_a_payload_among_good_tensors_is_refused(tmp_path: Path, container: str) -> None:
    data = {"model": {"a": torch.ones(2)}, "extra": Payload(tmp_path / "ran")}
    with pytest.raises(ForeignNameError, match=r"posix\.mkdir"):
        read_inert(save(data, tmp_path / "w.pt", container=container))
    assert not (tmp_path / "ran").exists()


def test_a_file_cannot_change_what_it_names(tmp_path: Path) -> None:
    before = dict(vars(torch.FloatStorage)), dict(vars(nn.Linear)), dict(vars(OrderedDict))
    for target in (b"ctorch\nFloatStorage\n", b"ctorch.nn.modules.linear\nLinear\n",
                   b"ccollections\nOrderedDict\n", b"ccollections\nOrderedDict\n)R"):  # fmt: skip
        state = b"}" + text("__init__") + text("mine") + b"s"
        for given_state in (state, b"N" + state + b"\x86"):
            page = opcodes(b"}", text("a"), target, given_state, b"b", b"s")
            with contextlib.suppress(DamagedError, ForeignNameError):
                read_inert(in_zip(tmp_path / "w.pt", page))
            if b"R" not in target:
                with pytest.raises(DamagedError):
                    read_inert(tmp_path / "w.pt")
    assert before == (
        dict(vars(torch.FloatStorage)), dict(vars(nn.Linear)), dict(vars(OrderedDict)),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes of a good page are changed at random: no other error, nothing imported."""
    folder = tmp_path_factory.mktemp("w")
    good = save({"model": {"a": torch.ones(2)}}, folder / "good.pt", container="older").read_bytes()
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    (folder / "w.pt").write_bytes(bytes(broken[: data.draw(st.integers(0, len(broken)))]))
    imported = set(sys.modules)
    with contextlib.suppress(DamagedError, ForeignNameError):
        read_inert(folder / "w.pt")
    assert set(sys.modules) == imported


@CONTAINERS
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97])
def test_truncated_files_are_damaged(tmp_path: Path, container: str, share: float) -> None:
    data = checkpoint_of_training({"a": torch.rand(400), "b": torch.rand(300)})
    path = save(data, tmp_path / "w.pt", container=container)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DamagedError):
        read_inert(path)


def rebuilt(storage: tuple[Any, ...], offset: int, size: Any, stride: Any) -> bytes:
    """A page with one tensor of these numbers."""
    made = io.BytesIO()

    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return storage if value is marker else None

    marker = object()
    pickler = Writer(made, 2)
    pickler.dump({"a": _Rebuilt(marker, offset, size, stride)})
    return made.getvalue()


class _Rebuilt:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride"),
    [
        (4, 1, (4,), (1,)),  # beyond the end
        (4, 0, (2, 3), (3, 1)),
        (4, -1, (2,), (1,)),
        (4, 0, (-2,), (1,)),
        (4, 0, (2,), (-1,)),
        (4, 0, (10**9,), (0,)),  # one number a billion times
        (4, 0, (2**60, 2**60), (0, 0)),
        (4, 0, (2,), (1, 1)),
        (4, 0, ("2",), (1,)),
        (4, 0, 2, 1),
        (4, 0, (True,), (1,)),
        (5, 0, (2,), (1,)),  # the storage is said to be longer than its data
        (-4, 0, (0,), (1,)),
    ],
)
def test_a_tensor_cannot_reach_beyond_its_data(
    tmp_path: Path, count: int, offset: int, size: Any, stride: Any
) -> None:
    page = rebuilt(("storage", torch.FloatStorage, "0", "cpu", count), offset, size, stride)
    path = in_zip(tmp_path / "w.pt", page)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/0", b"\0" * 16)
    with pytest.raises(DamagedError, match=r"malformed|beyond its data|not whole|unknown type"):
        read_inert(path)


def test_a_storage_cannot_be_changed_after_it_was_checked(tmp_path: Path) -> None:
    storage = pickle.dumps(("storage", torch.FloatStorage, "0", "cpu", 4), 2)[2:-1]
    for state in ([None, 10**9, "0", 0], {"count": 10**9}, (None, {"count": 10**9})):
        page = opcodes(b"}", text("a"), storage, b"Q", pickle.dumps(state, 2)[2:-1], b"b", b"s")
        with pytest.raises((DamagedError, ForeignNameError)):
            read_inert(in_zip(tmp_path / "w.pt", page))


def test_a_bomb_is_refused_quickly(tmp_path: Path) -> None:
    nested: Any = [1]
    for _ in range(60):
        nested = [nested, nested]
    with pytest.raises(DamagedError, match="without end"):
        read_inert(in_zip(tmp_path / "w.pt", pickle.dumps({"a": nested}, 2)))
    ring: dict[str, Any] = {}
    ring["a"] = ring
    with pytest.raises(DamagedError, match="without end"):
        read_inert(in_zip(tmp_path / "w.pt", pickle.dumps(ring, 2)))
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 2**20)
    with pytest.raises(DamagedError, match="compressed"):
        read_inert(tmp_path / "w.pt")


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")


@pytest.mark.parametrize(
    "page",
    [
        opcodes(b"}r\xff\xff\xff\x7f", b"0N"),  # a memo of 16 GB
        opcodes(b"}K\x01", b"\x85" * 1_000_000, b"Ns"),  # a key that Python crashes on
        b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b".",
        b"\x80\x04](" + b"".join(b"ctorch.optim.x\nA%d\n" % i for i in range(20_000)) + b"e.",
        opcodes(b"](}q\x01(", b"".join(b"G" + struct.pack(">d", i) + b"N" for i in range(20_000)),
                b"u", b"h\x01" * 20_000, b"e"),
        opcodes(b"ctorch._utils\n_rebuild_tensor_v2\n(", STORAGE, b"K\x04tQK\x00(",
                b"J\xff\xff\xff\x7f" * 200_000, b"t(", b"K\x01" * 200_000, b"t\x89)tR"),
        opcodes(b"](", b"".join(
            b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"J\x90\xd0\x03\x00("
            + text("v") + b"J" + struct.pack("<i", start)
            + b"J\x90\xd0\x03\x00ttQK\x00K\x02\x85K\x01\x85\x89)tR"
            for start in range(2_000)), b"e"),
    ],
    ids=["memo", "depth", "bytearray", "names", "keys", "dimensions", "views"],
)  # fmt: skip
def test_a_small_file_takes_neither_time_nor_memory(tmp_path: Path, page: bytes) -> None:
    path = in_zip(tmp_path / "w.pt", page)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/0", b"\0" * 1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with contextlib.suppress(DamagedError):
        read_inert(path)
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_names_given_to_copyreg_are_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(copyreg._extension_cache, 7, os.mkdir)
    page = opcodes(b"\x82\x07", text(str(tmp_path / "ran")), b"\x85R")
    with pytest.raises(DamagedError, match="no checkpoint has"):
        read_inert(in_zip(tmp_path / "w.pt", page))
    assert not (tmp_path / "ran").exists()


def test_a_name_is_told_in_one_printable_line(tmp_path: Path) -> None:
    page = b"\x80\x04" + text("po\x1b[31m\nsix" + "x" * 999) + text("mkdir") + b"\x93."
    with pytest.raises(ForeignNameError) as caught:
        read_inert(in_zip(tmp_path / "w.pt", page))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120


def test_numbers_in_another_byte_order_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        file.writestr("archive/byteorder", "big")
    with pytest.raises(DamagedError, match="byte order"):
        read_inert(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("torch._utils", "_rebuild_tensor_v2", True),
        ("torch.optim.sgd", "SGD", True),
        ("torch.hub", "load", False),
        ("torch", "load", False),
        ("numpy.core.multiarray", "scalar", True),
        ("numpy", "load", False),
        ("os", "system", False),
        ("nt", "system", False),
        ("subprocess", "Popen", False),
        ("cox.utils", "Parameters", True),
        ("yacs.config", "CfgNode", True),
        ("yacs.config", "load_cfg", False),
        ("__main__", "Arguments", True),
        ("__main__", "Arguments.run", False),
        ("dill._dill", "_create_function", True),
        ("dill._dill", "_eval_repr", False),
    ],
)
def test_names_that_have_a_place_in_a_checkpoint(module: str, name: str, said: object) -> None:
    assert known_name(module, name) is said


def test_views_of_one_storage_in_the_older_container(tmp_path: Path) -> None:
    """The oldest files say that a storage is a part of another."""
    page = rebuilt(("storage", torch.FloatStorage, "9", "cpu", 6, ("5", 2, 3)), 1, (2,), (1,))
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    numbers = torch.arange(6.0).numpy().tobytes()
    (tmp_path / "w.pt").write_bytes(
        b"".join([*parts, page, pickle.dumps(["9"], 2), struct.pack("<q", 6), numbers])
    )
    assert read_inert(tmp_path / "w.pt")["a"].tolist() == [3.0, 4.0]
    page = rebuilt(("storage", torch.FloatStorage, "9", "cpu", 6, ("5", 2, 3)), 1, (3,), (1,))
    (tmp_path / "w.pt").write_bytes(
        b"".join([*parts, page, pickle.dumps(["9"], 2), struct.pack("<q", 6), numbers])
    )
    with pytest.raises(DamagedError, match="beyond its data"):  # of its part; the whole is longer
        read_inert(tmp_path / "w.pt")
