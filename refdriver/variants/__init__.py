"""Variants of the reference driver: correct drivers that make another permitted choice by a replaced function.

The entry point ``refdriver`` of the group ``overlay_conformance.variants`` names this package.
"""
