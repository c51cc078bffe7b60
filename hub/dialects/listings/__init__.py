"""The listings API (`/v1`): listings, their images and reference data, for the programs of account holders."""
