"""What react_ray.pairs.formats.arrays promises of .npz and .npy files that are no plain arrays of vectors."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from react_ray.errors import ReactRayError
from react_ray.pairs.source import IngestConfig, open_source

IMAGE_ND = np.linspace(0, 1, 64, dtype=np.float16).reshape(4, 16)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def refusal(path: Path) -> str:
    """The one line that says why a source of vectors is refused, when it is planned or read."""
    with pytest.raises(ReactRayError) as caught:
        open_source(IngestConfig(source=str(path))).read(0)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def test_encrypted_npz_and_unknown_methods_are_one_line(tmp_path: Path) -> None:
    data = bytearray(npz(tmp_path / "a.npz", {"b32_img.npy": npy(IMAGE_ND)}).read_bytes())
    central = data.index(b"PK\1\2")
    for at, value, why in ((6, 1, "is encrypted"), (8, 99, "compression method is not supported")):
        changed = bytearray(data)
        changed[at] = changed[central + at + 2] = value
        (tmp_path / "a.npz").write_bytes(changed)
        assert why in refusal(tmp_path / "a.npz") and "write it again with numpy.savez" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compression_is_one_line(tmp_path: Path, method: int) -> None:
    data = bytearray(npz(tmp_path / "a.npz", {"b32_img.npy": npy(IMAGE_ND)}, method).read_bytes())
    body = 30 + len("b32_img.npy")
    for at in range(body, data.index(b"PK\1\2"), 7):
        changed = bytearray(data)
        changed[at : at + 3] = b"\xff\xff\xff"
        (tmp_path / "a.npz").write_bytes(changed)
        try:
            open_source(IngestConfig(source=str(tmp_path / "a.npz"))).read(0)
        except ReactRayError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f2', 'fortran_order': False, 'shape': (-4, 16), }",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000000, 0), }",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 100000000), }",
        "{'descr': '<f2', 'fortran_order': True, 'shape': (4, 16), }",
        "{'descr': '<f2', 'shape': (4, 16), }",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (4, " + "9" * 5000 + "), }",
        "(" * 3000,
        "{'descr': '''",
        "{'descr': 'O', 'fortran_order': False, 'shape': (4, 16), }",
    ],
)
@pytest.mark.parametrize("name", ["img_emb_0.npy", "a.npz"])
def test_a_header_that_is_no_array_of_vectors_is_one_line(tmp_path: Path, name: str, header: str) -> None:
    text = header.encode() + b"\n"
    data = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + IMAGE_ND.tobytes()
    if name == "a.npz":
        npz(tmp_path / name, {"b32_img.npy": data})
    else:
        (tmp_path / name).write_bytes(data)
    assert "vectors are floats [rows, dimensions] in C order" in refusal(tmp_path)


def test_arrays_that_are_not_read_are_counted_and_unfit_vectors_are_not_passed_over(tmp_path: Path) -> None:
    members = {"b32_img.npy": npy(IMAGE_ND), "ids.npy": npy(np.arange(4)), "about.txt": b"made by hand"}
    npz(tmp_path / "a.npz", members)
    source = open_source(IngestConfig(source=str(tmp_path)))
    assert any(
        "arrays of .npz files that are not read: 2 (a.npz: ids, a.npz: about.txt)" in s for s in source.summary()
    )
    assert source.read(0)["image_vector"].to_pylist() == IMAGE_ND.tolist()
    npz(tmp_path / "a.npz", members | {"b32_txt.npy": npy(IMAGE_ND.astype(np.int8))})
    assert "it holds int8 [4, 16]" in refusal(tmp_path)
    npz(tmp_path / "a.npz", {f"{i}.npy": npy(IMAGE_ND[:1]) for i in range(1001)})
    assert "1,001 arrays, more than 1,000 are not read" in refusal(tmp_path)
