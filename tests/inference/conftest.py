import pytest

from skaimz.inference import chunks


@pytest.fixture
def in_pieces(monkeypatch):
    """Cut a module's long work into pieces of a first length and a duration; give the list of their lengths."""

    def cut(module, first, seconds):
        lengths = []

        def run(step, total, **options):
            def counted(start, count):
                lengths.append(count)
                return step(start, count)

            return chunks.run_in_chunks(counted, total, **{**options, "first": first})

        monkeypatch.setattr(chunks, "CHUNK_SECONDS", seconds)
        monkeypatch.setattr(module, "run_in_chunks", run)
        return lengths

    return cut
