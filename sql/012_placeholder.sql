-- Placeholder: the helper whose number this is replaces (or renames and fills) this file.
SELECT 1;
