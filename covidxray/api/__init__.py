"""The scripts' work as functions for a notebook or a program: `from covidxray import train`."""
