"""Stands in for a package of pretrained networks that would be downloaded."""
