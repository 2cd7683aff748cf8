import tempfile

import pytest


@pytest.fixture(autouse=True)
def _no_files_left(tmp_path, monkeypatch):
    """Fits and calls leave no temporary files behind."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
