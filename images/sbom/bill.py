"""Print the CycloneDX bill of materials of the image that this runs in: its Python and its Debian packages.

bill.py CYCLONEDX_FOLDER TITLE VERSION REVISION, where the folder holds an installed cyclonedx-bom.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

# In a process of its own, so that the environment that is looked at does not have it.
CYCLONEDX = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module('cyclonedx_py', run_name='__main__')"


def main(cyclonedx: str, title: str, version: str, revision: str) -> int:
    """Print the bill as JSON; it is validated against CycloneDX's own schema before."""
    environment = ["environment", "--output-reproducible", "--output-format", "JSON", sys.executable]
    done = subprocess.run(
        [sys.executable, "-c", CYCLONEDX, cyclonedx, *environment], check=True, stdout=subprocess.PIPE
    )
    bill: dict[str, Any] = json.loads(done.stdout)
    root = {"type": "container", "bom-ref": "image", "name": title, "version": version}
    bill["metadata"]["component"] = {**root, "properties": [{"name": "revision", "value": revision}]}
    debian = _debian_packages()
    bill["components"] = [*bill["components"], *debian]
    refs = [component["bom-ref"] for component in bill["components"]]
    bill["dependencies"] = [{"ref": "image", "dependsOn": refs}, *bill["dependencies"]]
    bill["dependencies"] += [{"ref": component["bom-ref"]} for component in debian]
    # Of the content, so that the same image gives the same bill.
    bill["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True)).urn
    text = json.dumps(bill, indent=1, sort_keys=True)
    _validate(text, cyclonedx)
    print(text)
    return 0


def _debian_packages() -> list[dict[str, Any]]:
    fields = r"${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", fields], check=True, capture_output=True, text=True
    )
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    distribution = release["ID"].strip('"')
    qualifier = f"distro={distribution}-{release['VERSION_ID'].strip(chr(34))}"
    components = []
    for line in sorted(listed.stdout.splitlines()):
        name, version, architecture = line.split("\t")
        purl = f"pkg:deb/{distribution}/{quote(name)}@{quote(version, safe='')}?arch={architecture}&{qualifier}"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return components


def _validate(text: str, cyclonedx: str) -> None:
    sys.path.append(cyclonedx)
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    error = JsonStrictValidator(version).validate_str(text)
    if error is not None:
        raise ValueError(f"not valid CycloneDX {version.to_version()}: {error!r}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
