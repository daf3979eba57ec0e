"""Everything that must exist before the first release, and who may do what with it. Idempotent: twice is once."""

from scripts.provision.alerts import NOBODY
from scripts.provision.names import TRAIN_TAG, train_tag
from scripts.provision.place import Place
from scripts.provision.resource import Provision, Provisioned, Resource
from scripts.provision.run import GitHub, provision, resources, things
from scripts.provision.workplace import environment_version, registered

__all__ = [
    "NOBODY",
    "TRAIN_TAG",
    "GitHub",
    "Place",
    "Provision",
    "Provisioned",
    "Resource",
    "environment_version",
    "provision",
    "registered",
    "resources",
    "things",
    "train_tag",
]
