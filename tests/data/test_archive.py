import os
import pickle
import zipfile

import pytest
import torch

from models.data.archive import Archive, StoredTensor


def read(value):
    if isinstance(value, StoredTensor):
        return value.read()
    if isinstance(value, dict):
        return {name: read(each) for name, each in value.items()}
    return [read(each) for each in value] if isinstance(value, list) else value


def test_values_come_back_as_torch_itself_reads_them(tmp_path):
    path, base = tmp_path / "saved", torch.arange(24)
    saved = {
        "slices": [base[3:9], base.view(4, 6)[:, ::2], base.view(4, 6).T, base[:0]],
        "kinds": [base.float(), base.double(), base.byte(), base.int(), torch.tensor(3)],
        "plain": ["text", 3, 2.5, None, True],
    }
    torch.save(saved, path)
    found, expected = read(Archive(path).load()), torch.load(path, weights_only=True)
    assert found["plain"] == expected["plain"]
    for name in ("slices", "kinds"):
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)


def test_what_is_read_may_be_changed_and_the_file_stays(tmp_path):
    torch.save(torch.arange(4), tmp_path / "saved")
    Archive(tmp_path / "saved").load().read()[0] = 9
    assert Archive(tmp_path / "saved").load().read().tolist() == [0, 1, 2, 3]


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "call", [(os.system, "true"), (eval, "1"), (getattr, "a", "upper"), (torch.load, "x"), (set,)]
)
def test_every_name_but_those_of_tensors_is_refused(tmp_path, call):
    torch.save([torch.zeros(3), Call(*call)], tmp_path / "saved")
    with pytest.raises(pickle.UnpicklingError, match="wants to run code"):
        Archive(tmp_path / "saved").load()


def test_a_tensor_whose_bytes_are_not_there_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "saved"
    torch.save([torch.zeros(300)], path)
    with zipfile.ZipFile(path) as file:
        records = {entry.filename: file.read(entry) for entry in file.infolist()}
    with zipfile.ZipFile(tmp_path / "less", "w") as file:
        for name, content in records.items():
            if "/data/" not in name:
                file.writestr(name, content)
    (stored,) = Archive(tmp_path / "less").load()
    with pytest.raises(ValueError, match="not in the file"):
        stored.read()


def test_a_tensor_that_reaches_past_its_own_bytes_is_refused():
    archive = type("Fake", (), {"content": bytearray(64), "find": lambda self, record: 0})()
    stored = StoredTensor(archive, "0", torch.uint8, 16, 8, (9,), (1,))
    with pytest.raises(ValueError, match="not in the file"):
        stored.read()


def test_compressed_records_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps([1]))
    with pytest.raises(ValueError, match="compressed"):
        Archive(tmp_path / "packed")
