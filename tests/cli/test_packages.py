"""The packages that `mpc-lite doctor` looks for: missing, too old, broken, or others in their place."""

import pytest

from mpc_lite.cli import packages

pytestmark = pytest.mark.trust


def test_packages_that_are_missing_or_too_old_are_named_with_the_command(monkeypatch):
    needed = ["numpy>=999", "no-such-package-anywhere>=1", 'pytest>=1; extra == "test"', "torch>=2"]
    monkeypatch.setattr(packages.metadata, "requires", lambda name: needed)
    fails = [finding for finding in packages.versions() if finding.state == "fails"]
    assert ["too old" in fails[0].what, "is not installed" in fails[1].what, len(fails)] == [True, True, 2]
    assert fails[0].do.endswith('-m pip install "numpy>=999"')


@pytest.mark.parametrize("error", [ImportError("libjpeg.so.62"), SystemError("another core"), OSError("a cut library")])
def test_packages_that_cannot_be_imported_are_named(monkeypatch, error):
    """Their metadata stay when they are broken."""
    real = packages.import_module

    def importing(name):
        if name == "PIL":
            raise error
        return real(name)

    monkeypatch.setattr(packages, "import_module", importing)
    (bad,) = [finding for finding in packages.versions() if finding.state == "fails"]
    assert bad.what.startswith(f"pillow cannot be imported: {type(error).__name__}: {error}")
    assert "-m pip install --force-reinstall pillow" in bad.do
