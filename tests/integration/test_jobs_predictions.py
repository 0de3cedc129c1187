"""Predictions of the models of a job while it trains."""

import pytest
import torch

from kd.models import inference
from kd.store import runs
from tests.helpers import identical
from tests.jobs import ME, SHORT, directly, same_as, step, wait_for


@pytest.mark.parametrize("student", ["mlp-30", "cnn-tiny"])
def test_predictions_come_from_the_last_record_in_eval_mode(manager, mnist, student):
    config, inputs = SHORT.replace(student=student, epochs=1), mnist.test.inputs()[:8]
    id = manager.start(config, ME, paused=True)
    wait_for(manager, id, "paused")
    assert manager.predict(id, inputs) == {}, "an untrained model must give no predictions"
    step(manager, id)
    first = manager.predict(id, inputs)
    assert set(first) == {"student", "control"} and not first["student"].requires_grad
    for which, logits in first.items():
        one_by_one = torch.cat([manager.predict(id, image[None])[which] for image in inputs])
        torch.testing.assert_close(
            logits, one_by_one, rtol=1e-4, atol=1e-5
        )  # batch normalization in training mode mixes the images of a batch
    manager.resume(id, ME)
    wait_for(manager, id, "done")
    for which, logits in manager.predict(id, inputs).items():
        stored = inference.logits_in_chunks(runs.load(id).model(which), inputs)
        torch.testing.assert_close(logits, stored, rtol=1e-4, atol=1e-5)
        assert not torch.equal(logits, first[which])


def test_predictions_do_not_change_the_training(manager, mnist):
    config = SHORT.replace(student="cnn-tiny", epochs=1, batch_size=20)
    id = manager.start(config, ME)
    while manager.snapshot(id).active:
        manager.predict(id, mnist.test.inputs()[:4])
    assert same_as(runs.load(id), directly(config, mnist))


def test_predictions_never_come_from_the_model_in_training(manager, mnist):
    id = manager.start(SHORT, ME, paused=True)
    wait_for(manager, id, "paused")
    step(manager, id)
    job = manager._queue.jobs[id]
    trained, published = job.experiment.trained, job.published.models
    assert identical(trained["student"], published["student"])
    for which, model in published.items():
        assert not any(module.training for module in model.modules()) and trained[which].training
        ours = {value.data_ptr() for value in trained[which].state_dict().values()}
        assert not ours & {value.data_ptr() for value in model.state_dict().values()}
