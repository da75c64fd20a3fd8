// SPDX-License-Identifier: MIT
plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "dev.tinyvlm.sample"
    compileSdk = 34
    defaultConfig {
        applicationId = "dev.tinyvlm.sample"
        minSdk = 26
        targetSdk = 34
    }
    // The model and the npm package (npm run build in js/), where they lie in the repository.
    sourceSets["main"].assets.srcDir("../../../models")
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }
    androidResources { noCompress += "gguf" }
}

dependencies { implementation(project(":tinyvlm")) }
