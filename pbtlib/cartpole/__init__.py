"""The CartPole experiment: DQN agents as a population."""
