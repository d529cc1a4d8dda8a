"""Reads pickles that hold arrays, numbers, texts and containers, and refuses all others before anything of theirs runs.

A pickle is a program: it names functions and calls them. None of ours or numpy's is ever handed to it. What it may
name are the few things numpy and Python themselves write into pickles of plain data, and each stands for a small
object of this file that takes notes; arrays are made from the notes when the program has ended.

The program is run by the reader that Python has in Python. The one in C hashes whatever is made a key, and the hash of
a tuple goes down into it without a limit: nested deeply it ends the process, shared at each level it never comes back.
"""

import pickle  # only to subclass its reader: pickle.load is never called
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from sentifuse.cache.errors import BadSource, reading
from sentifuse.cache.spec import Array

__all__ = ["load_pickle", "read_pickle"]

MAX_DEPTH = 32  # containers in containers; the files of the field have four
MAX_RANK = 64  # numpy's own limit
MAX_KEY_PARTS = 64  # of a key or a member of a set, parts of its parts included; those of the field have one

_DTYPE = re.compile(r"[<>|=]?(?:[?]|[biuf][0-9]{1,2}|[SU][0-9]{1,6}|O8?)")


def read_pickle(path: Path) -> Any:
    """The data in a pickle file; see `load_pickle`. Raises Unreadable as well."""
    with reading(path), path.open("rb") as file:
        return load_pickle(file, path)


def load_pickle(file: BinaryIO, where: Path) -> Any:
    """The data in a pickle: dict, list, tuple, set, text, bytes, numbers, numpy arrays and scalars.

    Raises
    ------
    BadSource
        It asks for anything else, named in the message; or it is damaged, nested too deep or in itself.
    """
    try:
        return _Finish().value(_Unpickler(file, where).load(), 0)
    except BadSource:
        raise
    # A damaged pickle can trip over every operation that it has: there is no shorter list.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise BadSource(
            f"{where}: not a pickle of plain data, or a damaged one ({str(error) or type(error).__name__})"
        ) from error


class _Maker:
    """Stands for a function a pickle may call. Itself neither function nor class: a pickle could change those."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it tries to change what it was given")


class _Dtype:
    """A dtype that a pickle described."""

    __slots__ = ("order", "text")

    def __init__(self, text: object, *flags: object) -> None:
        if (
            not isinstance(text, str)
            or not _DTYPE.fullmatch(text)
            or not all(type(flag) in (bool, int) for flag in flags)
        ):
            raise pickle.UnpicklingError(f"dtype {_shown(text)}; expected plain numbers, texts or objects")
        self.text = text.lstrip("<>|=")
        self.order = text[0] if text[0] in "<>" else "="

    def __setstate__(self, state: object) -> None:
        # (version, byte order, sub-array, names, fields, item size, alignment, flags, maybe metadata)
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a dtype with fields; expected plain numbers, texts or objects")
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"a dtype of byte order {_shown(state[1])}")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        text = "O" if self.text == "O8" else self.text
        return np.dtype(self.order + text) if self.order in "<>" else np.dtype(text)


class _Array:
    """An array that a pickle described."""

    __slots__ = ("dtype", "is_fortran", "raw", "shape")

    def __init__(self) -> None:
        self.raw: Any = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array of an unknown kind")
        _, self.shape, self.dtype, self.is_fortran, self.raw = state

    def numpy(self, finish: "_Finish", depth: int) -> Array:
        if self.raw is None or not isinstance(self.dtype, _Dtype) or not isinstance(self.shape, tuple):
            raise pickle.UnpicklingError("an array without values")
        if len(self.shape) > MAX_RANK or not all(type(side) is int and side >= 0 for side in self.shape):
            raise pickle.UnpicklingError("an array whose shape is none")
        dtype = self.dtype.numpy()
        count = int(np.prod(self.shape, dtype=object))
        raw = self.raw.encode("latin-1") if isinstance(self.raw, str) else self.raw  # Python 2 wrote bytes as text
        if dtype.hasobject:
            if not isinstance(raw, list) or len(raw) != count:
                raise pickle.UnpicklingError(f"an array of {count} objects that are not there")
            flat: Array = np.empty(count, dtype=object)
            for number, item in enumerate(raw):
                flat[number] = finish.value(item, depth)
        elif not isinstance(raw, (bytes, bytearray)) or len(raw) != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of shape {self.shape} with bytes for another")
        else:
            flat = np.frombuffer(raw, dtype=dtype, count=count) if count else np.empty(0, dtype=dtype)
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


_NDARRAY = _Maker(lambda *_: _refuse("it makes an array in an unknown way"))


def _shown(value: object) -> str:
    """A text or a number as it is; of all else only the kind: a container may be longer than memory when written."""
    return repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


def _refuse(problem: str) -> Any:
    raise pickle.UnpicklingError(problem)


def _reconstruct(kind: object, *_: object) -> _Array:
    return _Array() if kind is _NDARRAY else _refuse("an array of an unknown class")


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: object, raw: object = b"") -> _Array:
    array = _Array()
    array.__setstate__((1, (), dtype, False, raw))
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {_shown(encoding)}")
    return text.encode("latin-1")  # how protocol 2 writes bytes


def _ordered(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    found = {}
    for key, value in pairs:
        _check_key(key)
        found[key] = value
    return found


def _set(members: Iterable[Any] = ()) -> set[Any]:
    return {member for member in members if _check_key(member)}


def _check_key(key: object) -> bool:
    """Refuse, before it is hashed or compared, a key whose hash is a long way down or takes for ever."""
    if type(key) is str or not isinstance(key, (tuple, frozenset)):
        return True  # a number, bytes, a stand-in; or nothing that has a hash
    waiting, parts = [key], 0
    while waiting:
        container = waiting.pop()
        parts += len(container)
        if parts > MAX_KEY_PARTS:
            raise pickle.UnpicklingError(f"a key, or a member of a set, made of more than {MAX_KEY_PARTS} parts")
        waiting += [part for part in container if isinstance(part, (tuple, frozenset))]
    return True


# The whole of what a pickle may name. The modules of numpy are those of its versions 1 and 2.
_GLOBALS: dict[tuple[str, str], _Maker] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Maker(_Dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Maker(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Maker(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Maker(_scalar),
    ("numpy._core.multiarray", "scalar"): _Maker(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Maker(_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): _Maker(_from_buffer),
    ("collections", "OrderedDict"): _Maker(_ordered),
    ("_codecs", "encode"): _Maker(_encode),
    ("builtins", "set"): _Maker(_set),
    ("__builtin__", "set"): _Maker(_set),
    ("builtins", "bytes"): _Maker(lambda: b""),
    ("__builtin__", "bytes"): _Maker(lambda: b""),
}


# Where on the stack, which begins at the last mark, each opcode that hashes finds what it hashes.
_HASHED = {
    pickle.SETITEM: slice(-2, -1),
    pickle.SETITEMS: slice(None, None, 2),
    pickle.DICT: slice(None, None, 2),
    pickle.ADDITEMS: slice(None),
    pickle.FROZENSET: slice(None),
}


def _looking_at(opcode: bytes, keys: slice) -> Callable[..., None]:
    load: Callable[..., None] = pickle._Unpickler.dispatch[opcode[0]]

    def look_and_load(self: "_Unpickler") -> None:
        for key in self.stack[keys]:
            _check_key(key)
        load(self)

    return look_and_load


def _load_bytearray(self: "_Unpickler") -> None:
    """Python's own fills as many bytes as a pickle says that there are, before it looks whether they are there."""
    (size_bytes,) = struct.unpack("<Q", self.read(8))
    self.stack.append(bytearray(self.read(size_bytes)))


class _Unpickler(pickle._Unpickler):
    """Looks at keys before they are hashed, and finds nothing but what `_GLOBALS` has."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        **{opcode[0]: _looking_at(opcode, keys) for opcode, keys in _HASHED.items()},
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }
    stack: list[Any]
    read: Callable[[int], bytes]

    def __init__(self, file: BinaryIO, where: Path) -> None:
        super().__init__(file, encoding="latin-1")  # of texts that Python 2 wrote; does not concern others
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise self._refused(f"{module}.{name}") from None

    def persistent_load(self, key: object) -> Any:
        raise self._refused(f"the outside object {_shown(key)}")

    def _refused(self, wanted: str) -> BadSource:
        return BadSource(
            f"{self._where}: asks for {wanted}. Nothing of it was run: only arrays, numbers, texts and containers are "
            "read from a pickle. If you trust where it comes from, load it there and save plain numpy arrays"
        )


class _Finish:
    """Puts arrays where a pickle left notes of them."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}  # both kept alive: an id must not be given to another object

    def value(self, item: Any, depth: int) -> Any:
        if isinstance(item, (str, bytes, int, float)) or item is None:
            return item
        if depth > MAX_DEPTH:
            raise pickle.UnpicklingError(f"containers nested deeper than {MAX_DEPTH}, or in themselves")
        if id(item) not in self._made:
            self._made[id(item)] = (item, self._make(item, depth + 1))
        return self._made[id(item)][1]

    def _make(self, item: Any, depth: int) -> Any:
        if isinstance(item, _Array):
            array = item.numpy(self, depth)
            return array[()] if array.ndim == 0 and not array.dtype.hasobject else array
        if isinstance(item, dict):
            return {self.value(key, depth): self.value(value, depth) for key, value in item.items()}
        if isinstance(item, (list, tuple)):
            made = [self.value(value, depth) for value in item]
            return made if isinstance(item, list) else tuple(made)
        if isinstance(item, (set, frozenset)):
            return {self.value(value, depth) for value in item}
        if isinstance(item, (bytearray, complex)):
            return item
        raise pickle.UnpicklingError(f"a {type(item).__name__.strip('_')} on its own, expected data")
