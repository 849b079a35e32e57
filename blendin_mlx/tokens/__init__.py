"""What tokens write: vocabularies as bytes, text as tokens, one vocabulary carried to another."""
