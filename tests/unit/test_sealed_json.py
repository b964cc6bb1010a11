"""result.json carries a checksum: a flipped bit is found by whoever reads it, and is never a changed number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jepa.errors import ConfigError
from jepa.files import Damaged, parse_sealed_json, write_sealed_json
from jepa.results.run_files import read_record, stamp_of
from jepa.store.run_folder import inspect
from jepa.sweep import records

RESULT = {
    "status": "finished",
    "objective": 1.25,
    "objective_metric": "prediction_rmse_px",
    "metrics": {"prediction_rmse_px": 1.25},
    "config": {"seed": 0},
}


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_sealed_json(path, RESULT)
    data = path.read_bytes()
    assert parse_sealed_json(data).items() >= RESULT.items()
    found = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert parse_sealed_json(bytes(flipped)).items() >= RESULT.items(), bytes(flipped)
        except ValueError:
            found += 1
    assert found > 7 * len(data)


def test_a_result_without_a_checksum_is_taken(tmp_path: Path) -> None:
    assert parse_sealed_json(json.dumps(RESULT).encode()) == RESULT
    write_sealed_json(tmp_path / "again.json", {**RESULT, "checksum": "that of a copy"})
    parse_sealed_json((tmp_path / "again.json").read_bytes())


def test_every_reader_of_a_result_looks_at_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_sealed_json(path, RESULT)
    path.write_bytes(path.read_bytes().replace(b"1.25", b"1.35", 1))
    with pytest.raises(Damaged):
        parse_sealed_json(path.read_bytes())
    with pytest.raises(ConfigError, match="result.json: does not match its checksum; rerun=true"):
        inspect(tmp_path, RESULT["config"])
    assert records.read_result(tmp_path) is None
    record = read_record(str(tmp_path), stamp_of(str(tmp_path)))
    assert record["status"] == "damaged" and "does not match its checksum" in record["fields"]["error"]
