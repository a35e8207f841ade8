"""Keeps what nodes publish of their data sets, and shows it to the federation. It can make none of it."""
