"""Programs that nobody vouches for, each in namespaces of its own: no network, a read-only root, limits on everything.

The worker's side is `sandbox`. The other modules are carried out by a launcher, a process of its own: a namespace, once
entered, cannot be left. The launcher loads them without the rest of the package, so they import the standard library
and each other only.
"""
