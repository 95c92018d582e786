"""Sweepers: every combination, a study of Optuna's, or one part left out at a time; each goes on where it stopped.

Hydra takes its sweepers from the namespace package `hydra_plugins` alone, and imports these modules on every start, so
what a sweep needs is imported when one begins.
"""
