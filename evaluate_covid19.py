"""Score a saved model on labelled images from elsewhere; images of one class are enough."""

from covidxray import DISCLAIMER, cli
from covidxray.options import external as options
from covidxray.process import run_script


def main() -> None:
    args = options.make_parser(__doc__).parse_args()
    config = options.read_config(args)

    from covidxray.pipeline.evaluate_model import evaluate_model
    from covidxray.report import comparison, external

    runs = []
    for run in evaluate_model(config, cli.show_dataset):
        print(f"model: {run.model}, {run.metadata.card['data set']}")
        if run.data.synthetic != run.metadata.synthetic:
            print("A model of drawings on real images, or the reverse: the numbers say nothing.")
        print(f"{external.format_text(run)}\n")
        runs.append(run)
    if len(runs) > 1:
        print(f"{comparison.format_table(runs)}\n")
    comparison.save_evaluation(runs, args.json, args.report)
    print(DISCLAIMER)


if __name__ == "__main__":
    run_script(main)
