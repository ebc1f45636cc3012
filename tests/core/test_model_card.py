import json
import subprocess
import sys
from dataclasses import replace

import pytest

from napari_focusfuse.model_card import ModelCard, ModelError, read_card, shipped_models

CARD = ModelCard(
    name="tiny",
    title="Tiny model",
    architecture="swift",
    config={"planes": 3, "width": 4},
    plane_offsets=(-1, 0, 1),
    halo=40,
    multiple_of=4,
    z_step_um=2.7,
    error_factor=2.1,
    mpp=0.243,
    training={"data": "drawn", "steps": 2},
    scores={"SSIM-paper": 0.9},
    limits=("Not for diagnosis.",),
)


def model_file(path, metadata, payload=b"\0" * 8, header=None):
    """Write a safetensors file by hand, so that every part of it can be wrong."""
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    entries = {"__metadata__": metadata, "weight": tensor}
    encoded = json.dumps(entries).encode() if header is None else header
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + payload)
    return path


def refusal(path):
    with pytest.raises(ModelError) as caught:
        read_card(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_card_survives_the_file(tmp_path):
    path = model_file(tmp_path / "m.safetensors", {"focusfuse": CARD.to_json()})
    card = read_card(path)
    assert card == CARD
    assert card.plane_offsets == (-1, 0, 1)
    assert card.limits == ("Not for diagnosis.",)


def test_reading_a_card_loads_no_torch(tmp_path):
    path = model_file(tmp_path / "m.safetensors", {"focusfuse": CARD.to_json()})
    script = (
        "import sys; from napari_focusfuse.model_card import read_card, shipped_models;"
        "card = read_card(sys.argv[1]); shipped_models();"
        "print(card.name, sorted({'torch', 'safetensors', 'napari', 'qtpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["tiny", "[]"]


def test_keys_of_later_versions_are_ignored():
    values = json.loads(CARD.to_json()) | {"colour": "blue"}
    assert ModelCard.from_json(json.dumps(values)) == CARD


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("name", "../evil", "name"),
        ("name", "", "name"),
        ("title", "two\nlines", "printable"),
        ("title", "\x1b[2J", "printable"),
        ("architecture", 7, "printable"),
        ("config", [1], "objects"),
        ("plane_offsets", [], "plane_offsets"),
        ("plane_offsets", [1, 0], "plane_offsets"),
        ("plane_offsets", [0.5], "plane_offsets"),
        ("plane_offsets", 3, "plane_offsets"),
        ("halo", -1, "halo"),
        ("halo", True, "halo"),
        ("multiple_of", 0, "multiple_of"),
        ("z_step_um", 0, "z_step_um"),
        ("error_factor", -1.0, "error_factor"),
        ("mpp", "0.24", "mpp"),
        ("mpp", 10**400, "mpp"),
        ("limits", [3], "limits"),
        ("limits", "none", "limits"),
        ("sha256", "abc", "sha256"),
        ("blur_model", "../x", "blur_model"),
    ],
)
def test_impossible_values_are_refused(field, value, rule):
    values = json.loads(CARD.to_json()) | {field: value}
    with pytest.raises(ModelError, match=rule):
        ModelCard.from_json(json.dumps(values))


def test_a_wrong_card_cannot_be_made():
    with pytest.raises(ModelError, match="halo"):
        replace(CARD, halo=-3)


def test_a_missing_field_is_named():
    values = json.loads(CARD.to_json())
    del values["architecture"]
    with pytest.raises(ModelError, match="architecture"):
        ModelCard.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "[" * 100_000, '{"mpp": NaN}', "\ud800"], ids=range(6)
)
def test_text_that_is_no_card(text):
    with pytest.raises(ModelError):
        ModelCard.from_json(text)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = model_file(tmp_path / "m.safetensors", {"focusfuse": CARD.to_json()}).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        refusal(cut)


def test_bytes_behind_the_tensors_are_refused(tmp_path):
    metadata = {"focusfuse": CARD.to_json()}
    path = model_file(tmp_path / "m.safetensors", metadata, payload=b"\0" * 9)
    assert "damaged" in refusal(path)


def test_no_card(tmp_path):
    assert "no model card" in refusal(model_file(tmp_path / "m.safetensors", {"format": "pt"}))
    assert "no model card" in refusal(model_file(tmp_path / "n.safetensors", None))


@pytest.mark.parametrize(
    "header",
    [
        b'{"weight": 3}',
        b'{"weight": {"data_offsets": [0, "8"]}}',
        b'{"weight": {"data_offsets": [0, 8.0]}}',
        b'{"weight": {"data_offsets": 8}}',
        b"{" * 5000,
        b'{"\xff": 1}',
    ],
    ids=range(6),
)
def test_headers_that_lie(tmp_path, header):
    assert "damaged" in refusal(model_file(tmp_path / "m.safetensors", None, header=header))


def test_a_huge_header_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert "not a safetensors file" in refusal(path)
    header = b"{" + b" " * (1 << 20) + b"}"
    assert "not a safetensors file" in refusal(model_file(path, None, header=header))


def test_files_of_other_kinds(tmp_path):
    for content in (b"", b"II*\0" + b"\0" * 40, b"\x89PNG\r\n\x1a\n" + b"\0" * 40):
        path = tmp_path / "m.safetensors"
        path.write_bytes(content)
        assert "not a safetensors file" in refusal(path)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02ctorch", b"\x80\x04\x95\x10"])
def test_pickles_are_named(tmp_path, start):
    path = tmp_path / "m.safetensors"
    path.write_bytes(start + b"\x01" * 60)
    assert "pickled" in refusal(path)
    path = tmp_path / "m.pt"
    path.write_bytes(b"\x01" * 60)
    assert "pickled" in refusal(path)


def test_a_file_that_cannot_be_read(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "absent.safetensors")
    assert "cannot be read" in refusal(tmp_path)


def test_shipped_models_are_what_their_cards_say():
    for name, path in shipped_models().items():
        assert read_card(path).name == name
