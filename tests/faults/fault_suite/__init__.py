"""The fault suite: real servers, workers and beats, hurt while they work, and a checker that looks from outside.

    python -m fault_suite            each fault by itself, then several at once
    python -m fault_suite --list     the faults, and which of them this machine cannot make

docs/faults.md says how to read what it prints; docs/crash-matrix.md is what it found.
"""
