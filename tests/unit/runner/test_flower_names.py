"""The contract with Flower: every undocumented name that flower_app.py uses, so that an upgrade fails here and says where."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore import constant, telemetry
from flwr.supercore.task_identity import TaskIdentity

from node_agent.runner.environment import SILENCE
from node_agent.runner.flower_app import FlowerApp, Refused, array_of, initial_arrays, ndarray_of


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.zeros((), np.int64),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
        np.arange(4, dtype=np.uint8),
    ],
)
def test_our_array_is_flowers_byte_for_byte_and_back(array):
    ours, theirs = array_of(array), Array(array)
    assert (ours.dtype, ours.shape, ours.stype, ours.data) == (theirs.dtype, theirs.shape, theirs.stype, theirs.data)
    np.testing.assert_array_equal(ndarray_of(theirs), array, strict=True)
    np.testing.assert_array_equal(ours.numpy(), array, strict=True)
    np.testing.assert_array_equal(ndarray_of(Array(np.array(array, order="F"))), array, strict=True)


def test_a_client_app_has_the_names_we_look_at():
    app = ClientApp()
    assert app._call is None
    assert app._registered_funcs == {}
    app.train()(lambda message, context: message)
    app.evaluate()(lambda message, context: message)
    assert set(app._registered_funcs) == {"train.default", "evaluate.default"}
    assert ClientApp(client_fn=lambda context: None)._call is not None
    assert {"run_id", "node_id", "task_id"} <= set(dir(type(TaskIdentity)))


def test_a_message_with_metadata_can_be_replied_to():
    fields = {"run_id": 1, "message_id": "1", "src_node_id": 0, "dst_node_id": 1, "reply_to_message_id": ""}
    fields |= {"group_id": "", "created_at": 1e9, "ttl": 1e10, "message_type": "train"}
    message = Message(metadata=Metadata(**fields), content=RecordDict())
    reply = Message(RecordDict({"metrics": MetricRecord({"x": 1.0})}), reply_to=message)
    assert reply.metadata.reply_to_message_id == "1"
    assert reply.has_content()
    assert not reply.has_error()


def test_the_variables_that_silence_flower_are_the_ones_it_reads():
    assert SILENCE["FLWR_TELEMETRY_ENABLED"] == "0"
    assert telemetry.FLWR_TELEMETRY_ENABLED in {"0", "1"}
    assert constant.FLWR_DISABLE_UPDATE_CHECK in SILENCE


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "made_up_task.py").write_text(
        "import numpy as np, random\n"
        "from flwr.app import Array, ArrayRecord\n"
        "from flwr.clientapp import ClientApp\n"
        "def mapping(): return {'b': np.random.rand(2), 'a': np.ones(1), 'c': np.array(random.random())}\n"
        "def record(): return ArrayRecord({'b': Array(np.ones(2)), 'a': Array(np.zeros(1))})\n"
        "def listed(): return [np.zeros(2), np.ones(3)]\n"
        "def configured(run_config, width=2): return {'x': np.zeros(run_config['n'])}\n"
        "def nothing(): return None\n"
        "def half():\n"
        "    import torch\n"
        "    return {'x': torch.zeros(2, dtype=torch.bfloat16)}\n"
        "def late():\n"
        "    import torch\n"
        "    return torch.nn.Linear(3, 2)\n"
        "old = ClientApp(client_fn=lambda context: None)\n"
        "empty = ClientApp()\n"
    )
    return tmp_path


def test_a_factory_may_give_mappings_records_lists_and_modules_in_their_order(bundle):
    first = initial_arrays("made_up_task:mapping", 3, {})
    assert list(first) == ["b", "a", "c"]
    again, other = initial_arrays("made_up_task:mapping", 3, {}), initial_arrays("made_up_task:mapping", 4, {})
    for name in ("b", "c"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
    assert list(initial_arrays("made_up_task:record", 0, {})) == ["b", "a"]
    assert list(initial_arrays("made_up_task:listed", 0, {})) == ["0", "1"]
    assert initial_arrays("made_up_task:configured", 0, {"n": 5})["x"].shape == (5,)
    layer = initial_arrays("made_up_task:late", 5, {})
    assert list(layer) == ["weight", "bias"]
    import torch

    torch.manual_seed(5)
    np.testing.assert_array_equal(layer["weight"], torch.nn.Linear(3, 2).weight.detach().numpy())


@pytest.mark.parametrize(
    ("factory", "check"),
    [
        ("made_up_task:nothing", "bad-factory"),
        ("made_up_task", "bad-reference"),
        ("made_up_task:half", "dtype"),
        ("made_up_task:__name__", "bad-factory"),
    ],
)
def test_factories_that_give_no_tensors_are_refused(bundle, factory, check):
    with pytest.raises(Refused) as caught:
        initial_arrays(factory, 0, {})
    assert caught.value.check == check


@pytest.mark.parametrize(
    ("reference", "check"),
    [("made_up_task:old", "client-fn"), ("made_up_task:empty", "no-train"), ("made_up_task:late", "not-a-client-app")],
)
def test_apps_of_other_kinds_are_refused(bundle, reference, check):
    with pytest.raises(Refused) as caught:
        FlowerApp(bundle, reference, node_config={"partition-id": 0}, run_config={}, weight_key="num-examples")
    assert caught.value.check == check


def test_an_array_record_of_another_serialisation_is_refused():
    record = ArrayRecord({"x": Array("float32", (1,), "own", b"1234")})
    with pytest.raises(Refused):
        ndarray_of(record["x"])
