"""Statements: many attribution reports added up, with a line for each rights-holder. Needs neither Ray nor torch."""
