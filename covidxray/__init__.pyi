from covidxray.api.external import evaluate as evaluate
from covidxray.api.prediction import load_predictor as load_predictor
from covidxray.api.training import train as train

__version__: str
DISCLAIMER: str
DRAWINGS: str
