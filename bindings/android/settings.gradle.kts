// SPDX-License-Identifier: MIT
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "tinyvlm-android"
include(":tinyvlm", ":sample")
