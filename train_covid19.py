"""Train a COVID-19 X-ray classifier and report how far its scores can be trusted."""

from covidxray import DISCLAIMER, DRAWINGS, cli
from covidxray.options import training as options
from covidxray.process import info, run_script


def main() -> None:
    config = options.read_config(options.make_parser(__doc__).parse_args())

    from covidxray.pipeline.train_model import train_model

    trained = train_model(config, cli.show_dataset)
    from covidxray.api import outputs
    from covidxray.report import text

    if trained.run.data.synthetic:
        print(DRAWINGS)
    print(text.format_training(trained.run))
    info("saving plot, model and metrics...")
    outputs.save_training(trained.run, trained.inputs, trained.predict_files)
    print(f"\n{DISCLAIMER}")


if __name__ == "__main__":
    run_script(main)
