"""Recipes, run folders, and tables that compare runs."""

from ._config import read_config as read_config, write_config as write_config
from ._events import EventLog as EventLog, follow as follow, read_events as read_events
from ._examples import Examples as Examples
from ._folder import (
    check_folder as check_folder,
    end_folder as end_folder,
    locked as locked,
    replacing as replacing,
    start_folder as start_folder,
    working_folder as working_folder,
)
from ._form import to_json as to_json, write_text as write_text
from ._reading import Setting as Setting, flatten as flatten, list_settings as list_settings
from ._recipe import Recipe as Recipe, Start as Start, column_moments as column_moments
from ._rows import (
    Given as Given,
    rows_for as rows_for,
    rows_of_test as rows_of_test,
    score_order as score_order,
    score_rows as score_rows,
    score_table as score_table,
    settings_now as settings_now,
    splits_of as splits_of,
)
from ._run import Run as Run, read_runs as read_runs
from ._settings import (
    Choice as Choice,
    Count as Count,
    CountOrZero as CountOrZero,
    Data as Data,
    ExactSettings as ExactSettings,
    Group as Group,
    Nothing as Nothing,
    NotNegative as NotNegative,
    Positive as Positive,
    Settings as Settings,
    Several as Several,
    Train as Train,
    TrainOnDraws as TrainOnDraws,
)
from ._table import Table as Table, TableRow as TableRow, as_sentence as as_sentence, tabulate as tabulate
from ._train import (
    Display as Display,
    Log as Log,
    Plan as Plan,
    TrainOptions as TrainOptions,
    load_data as load_data,
    plan as plan,
    read_settings as read_settings,
    train as train,
)
