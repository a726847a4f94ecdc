import pytest

from aerial_export.new_files import new_files
from aerial_runtime.errors import ResourceError


def test_all_appear_at_the_end_and_scratch_does_not(tmp_path):
    with new_files(tmp_path / "a" / "b") as folder:
        (folder / "one").write_text("1")
        (folder / "scratch").mkdir()
        (folder / "scratch" / "two").write_text("2")
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [folder.name]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["one"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_none_appears_when_something_goes_wrong(tmp_path, error):
    (tmp_path / "one").write_text("old")
    with pytest.raises(error):
        with new_files(tmp_path) as folder:
            (folder / "one").write_text("new")
            raise error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("one", "old")]


def test_none_is_replaced_where_a_folder_has_the_name_of_one(tmp_path):
    (tmp_path / "one").write_text("old")
    (tmp_path / "two").mkdir()
    with pytest.raises(ResourceError, match=r"cannot write into .* \(Is a directory\), what was there is as it was"):
        with new_files(tmp_path) as folder:
            (folder / "one").write_text("new")
            (folder / "two").write_text("new")
    assert (tmp_path / "one").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_what_the_system_refuses_is_one_sentence(tmp_path):
    with pytest.raises(ResourceError, match=r"cannot write into .* \(No space left on device\), what was there"):
        with new_files(tmp_path):
            raise OSError(28, "No space left on device")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write into"):
        with new_files(tmp_path / "file" / "x"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
