"""Texts of any characters, for hypothesis."""

from hypothesis import strategies as st

# Lone surrogates included: to leave them out, `st.text()` sorts Unicode into categories, and that
# takes a second in each fresh clone.
any_text = st.text(alphabet=st.characters(exclude_categories=()))
