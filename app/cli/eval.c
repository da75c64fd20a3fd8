/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "eval/images.h"
#include "eval/report.h"
#include "eval/rows.h"
#include "file/output.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: tinyvlm eval ROWS.jsonl --images DIR|ARCHIVE [OPTIONS]\n"
    "Measures a model on questions and captions. A row is a JSON object on a line of its own:\n"
    "  {\"image\": \"a/1.jpg\", \"question\": \"How many dogs are there?\", \"answers\": [\"2\", "
    "\"two\"]}\n"
    "  {\"image\": \"a/1.jpg\", \"captions\": [\"Two dogs run.\", \"Dogs on a beach\"]}\n"
    "and with \"source\" it is counted apart. An answer is right when it is one of those listed, "
    "but for capitals and a\n"
    "full stop. Captions are scored by CIDEr-D and BLEU-4. Beside each accuracy stands what is "
    "reached without looking.\n"
    "\n"
    "Examples:\n"
    "  tinyvlm eval questions.jsonl --images photos/\n"
    "  tinyvlm eval eval-v1.jsonl --images coco.tar --images flickr8k.tar --json > result.json\n"
    "  tinyvlm eval captions.jsonl --images photos/ --where split=test --where kind=human --limit "
    "300\n"
    "\n"
    "      --images PATH       a folder or an archive (tar, zip; up to 64 times): the first that "
    "has an image gives it\n"
    "      --where KEY=VALUE   rows that say so only (up to 8 times)\n"
    "      --limit N           a sample of N rows, the same each time\n"
    "      --prompt TEXT       what asks for a caption (default: the model's own)\n"
    "      --shuffle           shows each row another row's image\n"
    "      --grey              shows grey instead of the images\n"
    "      --answers FILE      writes every row with its \"answer\" to FILE, a question's with\n"
    "                          whether it is \"right\"; one JSON object a line\n"
    "  -n, --max-tokens N      longest answer (default here: 12, of a caption 40)\n"
    "\n";

enum {
    OPT_IMAGES = CLI_OWN,
    OPT_WHERE,
    OPT_LIMIT,
    OPT_PROMPT,
    OPT_SHUFFLE,
    OPT_GREY,
    OPT_ANSWERS,
    MAX_SOURCES = 64,
    MAX_WHERE = 8,
    MAX_FIRST = 8 /* spellings of yes and of no */
};

/* Ids that a yes or a no begins with. */
typedef struct first_ids {
    int32_t id[MAX_FIRST];
    size_t n;
} first_ids;

typedef struct job {
    cli_options options;
    cli_runner runner;
    const char *sources[MAX_SOURCES];
    size_t n_sources;
    eval_where where[MAX_WHERE];
    eval_row_filter filter;
    const char *prompt, *answers;
    bool shuffle, grey;
    eval_rows rows;
    eval_row **order; /* by image */
    size_t n_asked;
    first_ids yes, no;
} job;

static bool take_where(job *j, const char *text)
{
    char *equals = strchr(text, '='); /* argv may be written to */
    if (!equals || equals == text || j->filter.n_where == MAX_WHERE) return false;
    *equals = 0;
    j->where[j->filter.n_where++] = (eval_where){text, equals + 1};
    return true;
}

static bool take(void *user, int value, const char *text)
{
    job *j = user;
    unsigned long limit;
    switch (value) {
    case OPT_IMAGES:
        if (!*text || j->n_sources == MAX_SOURCES) return false;
        j->sources[j->n_sources++] = text;
        return true;
    case OPT_WHERE:
        return take_where(j, text);
    case OPT_LIMIT:
        if (!cli_unsigned(text, 1, 1000000000, &limit)) return false;
        j->filter.limit = limit;
        return true;
    case OPT_PROMPT:
        j->prompt = text;
        return cli_says_something(text, strlen(text));
    case OPT_ANSWERS:
        j->answers = text;
        return *text;
    case OPT_SHUFFLE:
        return j->shuffle = true;
    default:
        return j->grey = true;
    }
}

/* ---- a row ---- */

/* The first id of each spelling. */
static tvlm_status find_first_ids(const tvlm_model *model, const char *const *spellings,
                                  first_ids *out, tvlm_error *err)
{
    for (; *spellings; spellings++) {
        int32_t ids[16];
        size_t n;
        APP_TRY(tvlm_tokenize(model, *spellings, strlen(*spellings), false, ids, APP_COUNT(ids), &n,
                              err));
        if (n && n <= APP_COUNT(ids)) out->id[out->n++] = ids[0];
    }
    return TVLM_OK;
}

/* Ids that begin both, such as a space of its own, tell nothing. */
static void drop_common(first_ids *from, const first_ids *other)
{
    size_t kept = 0;
    for (size_t i = 0; i < from->n; i++) {
        bool common = false;
        for (size_t k = 0; k < other->n; k++)
            common |= from->id[i] == other->id[k];
        for (size_t k = 0; k < kept; k++)
            common |= from->id[i] == from->id[k];
        if (!common) from->id[kept++] = from->id[i];
    }
    from->n = kept;
}

static tvlm_status learn_yes_and_no(job *j, tvlm_error *err)
{
    static const char *const yes[] = {"yes", "Yes", " yes", " Yes", NULL};
    static const char *const no[] = {"no", "No", " no", " No", NULL};
    APP_TRY(find_first_ids(j->runner.model, yes, &j->yes, err));
    APP_TRY(find_first_ids(j->runner.model, no, &j->no, err));
    first_ids before = j->yes;
    drop_common(&j->yes, &j->no);
    drop_common(&j->no, &before);
    return TVLM_OK;
}

static double sum_exp(const float *logits, const first_ids *of, float most)
{
    double sum = 0;
    for (size_t i = 0; i < of->n; i++)
        sum += exp((double)logits[of->id[i]] - (double)most);
    return sum;
}

/* Probability of yes among yes and no, by the logits of the first word; -1 where the model knows
 * neither. */
static double probability_of_yes(const job *j, const float *logits)
{
    float most = -INFINITY;
    for (size_t i = 0; i < j->yes.n; i++)
        most = fmaxf(most, logits[j->yes.id[i]]);
    for (size_t i = 0; i < j->no.n; i++)
        most = fmaxf(most, logits[j->no.id[i]]);
    if (!j->yes.n || !j->no.n || !isfinite(most)) return -1;
    double yes = sum_exp(logits, &j->yes, most), no = sum_exp(logits, &j->no, most);
    return yes / (yes + no);
}

static tvlm_status answer_prompt(job *j, eval_row *row, const tvlm_prompt *prompt, tvlm_error *err)
{
    tvlm_generate_params p;
    tvlm_result result = {.size = sizeof result};
    if (eval_is_yes_no(row)) {
        APP_TRY(tvlm_session_feed(j->runner.engine, j->runner.session, prompt, cli_cancel(), NULL,
                                  0, err));
        row->p_yes = probability_of_yes(j, tvlm_session_logits(j->runner.session));
    }
    tvlm_generate_params_init(&p, sizeof p);
    p.max_tokens = j->options.max_tokens ? j->options.max_tokens : row->question ? 12 : 40;
    p.sampling = j->options.sampling;
    p.lookup = j->options.lookup;
    p.beams = j->options.beams;
    p.stop = j->options.stop;
    p.n_stop = j->options.n_stop;
    p.cancel = cli_cancel();
    APP_TRY(tvlm_generate(j->runner.engine, j->runner.session, prompt, &p, &result, err));
    row->answer = malloc(result.text_len + 1);
    if (!row->answer) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for an answer");
    memcpy(row->answer, result.text, result.text_len);
    row->answer[result.text_len] = 0; /* an answer with a zero byte in it ends there */
    return TVLM_OK;
}

static tvlm_status answer_row(job *j, eval_row *row, tvlm_image *image, tvlm_error *err)
{
    const char *text = row->question ? row->question : j->prompt;
    tvlm_prompt *prompt;
    APP_TRY(cli_prompt(&j->runner, text, strlen(text), &image, 1, &prompt, err));
    tvlm_status status = answer_prompt(j, row, prompt, err);
    tvlm_prompt_free(prompt);
    if (!j->options.quiet) cli_progress("eval", ++j->n_asked, j->rows.n);
    return status;
}

/* ---- images ---- */

static int by_image(const void *a, const void *b)
{
    const eval_row *v = *(eval_row *const *)a, *w = *(eval_row *const *)b;
    if (v->image_index != w->image_index) return v->image_index < w->image_index ? -1 : 1;
    return v < w ? -1 : v > w;
}

static tvlm_status encode(job *j, const void *data, size_t size, tvlm_image **out, tvlm_error *err)
{
    static const uint8_t grey[3] = {128, 128, 128};
    tvlm_pixels pixels = {grey, 1, 1, 3, 0};
    app_decoded decoded = {0};
    tvlm_encode_params encode;
    const app_decode_params decode = {.max_pixels = j->options.max_pixels};
    if (!j->grey) {
        APP_TRY(app_decode_memory(data, size, &decode, &decoded, err));
        pixels = app_decoded_pixels(&decoded);
    }
    tvlm_encode_params_init(&encode, sizeof encode);
    encode.cancel = cli_cancel();
    tvlm_status status = tvlm_image_encode(j->runner.engine, &pixels, &encode, out, err);
    app_decoded_free(&decoded);
    return status;
}

/* Every row that is shown image i. */
static tvlm_status visit(void *user, size_t i, const void *data, size_t size, tvlm_error *err)
{
    job *j = user;
    tvlm_image *image;
    tvlm_error why;
    size_t begin = 0, end = j->rows.n;
    while (begin < end) { /* the first row of image i or later */
        size_t middle = begin + (end - begin) / 2;
        if (j->order[middle]->image_index < i)
            begin = middle + 1;
        else
            end = middle;
    }
    tvlm_status status = encode(j, data, size, &image, &why);
    if (status) return app_fail(err, status, "%s: %s", j->rows.images[i], why.message);
    for (; begin < j->rows.n && j->order[begin]->image_index == i && !status; begin++)
        status = answer_row(j, j->order[begin], image, err);
    tvlm_session_reset(j->runner.session); /* it would hold the image */
    tvlm_image_free(image);
    return status;
}

static tvlm_status look_for_images(job *j, bool *found, tvlm_error *err)
{
    const eval_rows *rows = &j->rows;
    size_t missing = 0, first = 0;
    APP_TRY(eval_images_visit(j->sources, j->n_sources, rows->images, rows->n_images, found, NULL,
                              NULL, err));
    for (size_t i = rows->n_images; i > 0; i--)
        if (!found[i - 1]) {
            missing++;
            first = i - 1;
        }
    if (!missing) return TVLM_OK;
    return app_fail(err, TVLM_ERR_IO,
                    "%s: not in what --images names, nor are %zu other images of %zu",
                    rows->images[first], missing - 1, rows->n_images);
}

static tvlm_status ask_all(job *j, tvlm_error *err)
{
    const eval_rows *rows = &j->rows;
    bool *found = calloc(rows->n_images, sizeof *found);
    j->order = malloc(rows->n * sizeof(eval_row *));
    tvlm_status status =
        found && j->order ? TVLM_OK
                          : app_fail(err, TVLM_ERR_MEMORY, "out of memory for %zu rows", rows->n);
    for (size_t i = 0; i < rows->n && !status; i++)
        j->order[i] = &j->rows.at[i];
    if (!status) qsort(j->order, rows->n, sizeof(eval_row *), by_image);
    if (!status && !j->grey) status = look_for_images(j, found, err);
    if (!status && !j->grey)
        status = eval_images_visit(j->sources, j->n_sources, rows->images, rows->n_images, found,
                                   visit, j, err);
    for (size_t i = 0; i < rows->n_images && !status && j->grey; i++)
        status = visit(j, i, NULL, 0, err);
    free(found);
    free(j->order);
    return status;
}

/* ---- results ---- */

static tvlm_status write_row(app_output *out, const eval_row *row, tvlm_error *err)
{
    json_object_set_new(row->object, "answer", cli_json_string(row->answer));
    if (row->question) json_object_set_new(row->object, "right", json_boolean(eval_is_right(row)));
    if (row->p_yes >= 0) json_object_set_new(row->object, "p_yes", json_real(row->p_yes));
    char *line = json_dumps(row->object, JSON_COMPACT);
    if (!line) return app_fail(err, TVLM_ERR_MEMORY, "out of memory for an answer");
    tvlm_status status = app_output_write(out, line, strlen(line), err);
    free(line);
    return status ? status : app_output_write(out, "\n", 1, err);
}

static tvlm_status write_answers(const job *j, app_output *out, tvlm_error *err)
{
    for (size_t i = 0; i < j->rows.n; i++)
        APP_TRY(write_row(out, &j->rows.at[i], err));
    return TVLM_OK;
}

static tvlm_status report(const job *j, tvlm_error *err)
{
    json_t *object;
    APP_TRY(eval_report(&j->rows, &object, err));
    json_object_set_new(object, "model", cli_json_string(j->options.model));
    json_object_set_new(object, "images",
                        json_string(j->grey      ? "grey"
                                    : j->shuffle ? "shuffled"
                                                 : "right"));
    if (j->options.json) {
        cli_json_line(object);
        return TVLM_OK;
    }
    eval_print_report(object);
    json_decref(object);
    return TVLM_OK;
}

/* Answers that were asked for are in their file before any number is told. */
static tvlm_status measure(job *j, tvlm_error *err)
{
    app_output *out = NULL;
    APP_TRY(cli_takes_photos(&j->runner, 1, err));
    APP_TRY(learn_yes_and_no(j, err));
    if (!j->prompt) j->prompt = j->runner.info.describe_prompt;
    if (j->shuffle) eval_rows_shuffle(&j->rows);
    if (j->answers) APP_TRY(app_output_open(j->answers, cli_cancel(), &out, err));
    tvlm_status status = ask_all(j, err);
    if (!status && out) status = write_answers(j, out, err);
    if (!status && out) return app_output_finish(out, NULL, NULL, err) ? err->code : report(j, err);
    app_output_abort(out);
    return status ? status : report(j, err);
}

static tvlm_status check_output(const job *j, const char *rows, tvlm_error *err)
{
    APP_TRY(app_output_not_input(j->answers, rows, err));
    APP_TRY(app_output_not_input(j->answers, j->options.model, err));
    for (size_t i = 0; i < j->n_sources; i++)
        APP_TRY(app_output_not_input(j->answers, j->sources[i], err));
    return TVLM_OK;
}

static int run(job *j, const char *path)
{
    tvlm_error err;
    j->options.model = cli_model_path(&j->options);
    if (!j->options.model) return EXIT_INPUT;
    tvlm_status status = j->answers ? check_output(j, path, &err) : TVLM_OK;
    if (!status) status = eval_rows_load(path, &j->filter, &j->rows, &err);
    if (status) return cli_fail(status, &err);
    int code = cli_runner_open(&j->runner, &j->options, NULL);
    if (!code) {
        status = measure(j, &err);
        cli_runner_close(&j->runner);
        if (status) code = cli_fail(status, &err);
    }
    eval_rows_free(&j->rows);
    return code;
}

int cmd_eval(int argc, char **argv)
{
    static const struct option names[] = {
        {"images",  required_argument, NULL, OPT_IMAGES },
        {"where",   required_argument, NULL, OPT_WHERE  },
        {"limit",   required_argument, NULL, OPT_LIMIT  },
        {"prompt",  required_argument, NULL, OPT_PROMPT },
        {"answers", required_argument, NULL, OPT_ANSWERS},
        {"shuffle", no_argument,       NULL, OPT_SHUFFLE},
        {"grey",    no_argument,       NULL, OPT_GREY   },
        {NULL,      0,                 NULL, 0          }
    };
    job j = {0};
    const cli_own own = {names, take, &j};
    cli_options_init(&j.options);
    j.options.max_tokens = 0; /* by what is asked */
    j.filter.where = j.where;
    int first = cli_parse(argc, argv, &j.options, &own);
    if (first < 0) return EXIT_USAGE;
    if (j.options.help) {
        printf("%s%s", help, cli_common_help);
        return 0;
    }
    if (first + 1 != argc) return cli_usage("eval: name one file of rows; see tinyvlm eval --help");
    if (!j.n_sources && !j.grey)
        return cli_usage("eval: --images DIR or ARCHIVE is missing; see tinyvlm eval --help");
    if (j.shuffle && j.grey) return cli_usage("eval: --shuffle and --grey are not for one run");
    return run(&j, argv[first]);
}
