/* SPDX-License-Identifier: MIT
 * JPEGs that Pillow does not write. Pixels on standard input, the JPEG on standard output:
 *   encode_jpeg WIDTH HEIGHT COMPONENTS FACTORS
 * [arithmetic|progressive|scans|ycck|plain|restart]... FACTORS: horizontal and vertical sampling of
 * each component, "221111". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

static void scan_each_component(struct jpeg_compress_struct *c)
{
    static jpeg_scan_info scans[4];
    for (int i = 0; i < c->num_components; i++)
        scans[i] = (jpeg_scan_info){1, {i}, 0, 63, 0, 0};
    c->scan_info = scans;
    c->num_scans = c->num_components;
}

static void choose(struct jpeg_compress_struct *c, const char *option)
{
    if (!strcmp(option, "arithmetic")) c->arith_code = TRUE;
    if (!strcmp(option, "progressive")) jpeg_simple_progression(c);
    if (!strcmp(option, "scans")) scan_each_component(c);
    if (!strcmp(option, "ycck")) jpeg_set_colorspace(c, JCS_YCCK);
    if (!strcmp(option, "rgb")) jpeg_set_colorspace(c, JCS_RGB);
    if (!strcmp(option, "plain")) c->write_JFIF_header = c->write_Adobe_marker = FALSE;
    if (!strcmp(option, "restart")) c->restart_interval = 2;
}

int main(int argc, char **argv)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    if (argc < 5) return 2;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, stdout);
    c.image_width = (JDIMENSION)atoi(argv[1]);
    c.image_height = (JDIMENSION)atoi(argv[2]);
    c.input_components = atoi(argv[3]);
    c.in_color_space = c.input_components == 1   ? JCS_GRAYSCALE
                       : c.input_components == 3 ? JCS_RGB
                                                 : JCS_CMYK;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 80, TRUE);
    for (int i = 5; i < argc; i++)
        choose(&c, argv[i]);
    for (int i = 0; i < c.num_components; i++) {
        c.comp_info[i].h_samp_factor = argv[4][2 * i] - '0';
        c.comp_info[i].v_samp_factor = argv[4][2 * i + 1] - '0';
    }
    jpeg_start_compress(&c, TRUE);
    size_t stride = (size_t)c.image_width * (size_t)c.input_components;
    JSAMPROW row = malloc(stride);
    while (row && c.next_scanline < c.image_height && fread(row, 1, stride, stdin) == stride)
        jpeg_write_scanlines(&c, &row, 1);
    jpeg_finish_compress(&c); /* fails, and ends the program, when rows are missing */
    jpeg_destroy_compress(&c);
    free(row);
    return 0;
}
