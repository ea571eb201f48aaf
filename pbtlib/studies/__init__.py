"""The long computations behind the stored data, each a `study.Study`; ``python -m pbtlib`` makes them."""
