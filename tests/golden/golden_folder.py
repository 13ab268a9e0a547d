"""Makes the model folder of a case from the committed weights and the case's config.json."""

import json
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent


def make(temporary, name, weights, config):
    folder = pathlib.Path(temporary) / name
    folder.mkdir()
    shutil.copy(HERE / "models" / weights / "model.safetensors", folder)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def expected(name):
    return json.loads((HERE / "expected" / f"{name}.json").read_text())
